%%% The queue of receivers, and the bound on what waits for them.
-module(curve_tun_receivers_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, pair/2, stop_pair/1, no_message/0, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [receivers_are_served_in_order, one_that_timed_out_takes_nothing, one_that_died_takes_nothing,
     all_waiting_hear_of_the_close, waiting_data_then_closed, setting_active_leaves_those_who_wait_first,
     a_peer_that_is_not_read_blocks, many_frames_in_one_read, one_byte_at_a_time].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% Starts a process that waits in recv, and returns once it does.
receiver(Socket, Name, Timeout) ->
    Test = self(),
    Pid = spawn_link(fun() -> Test ! {Name, curve_tun:recv(Socket, Timeout)} end),
    until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
    %% Its call is in the connection's queue once the connection has answered a later one.
    {ok, _} = curve_tun:peername(Socket),
    Pid.

receivers_are_served_in_order(_) ->
    {Client, Server} = Pair = pair(),
    [receiver(Server, N, infinity) || N <- lists:seq(1, 20)],
    ok = curve_tun:send_many(Client, [<<N>> || N <- lists:seq(1, 20)]),
    [receive {N, Message} -> ?assertEqual(<<N>>, Message) end || N <- lists:seq(1, 20)],
    stop_pair(Pair).

one_that_timed_out_takes_nothing(_) ->
    {Client, Server} = Pair = pair(),
    {error, timeout} = curve_tun:recv(Server, 20),
    {error, timeout} = curve_tun:recv(Server, 0),
    receiver(Server, first, 50),
    receiver(Server, second, infinity),
    receive {first, {error, timeout}} -> ok end,
    ok = curve_tun:send(Client, <<"1">>),
    ok = curve_tun:send(Client, <<"2">>),
    receive {second, <<"1">>} -> ok end,
    <<"2">> = curve_tun:recv(Server),
    no_message(),
    stop_pair(Pair).

one_that_died_takes_nothing(_) ->
    {Client, Server} = Pair = pair(),
    Pid = receiver(Server, dead, infinity),
    unlink(Pid),
    exit(Pid, kill),
    until(fun() -> not is_process_alive(Pid) end),
    {ok, _} = curve_tun:peername(Server),
    ok = curve_tun:send(Client, <<"1">>),
    <<"1">> = curve_tun:recv(Server),
    stop_pair(Pair).

all_waiting_hear_of_the_close(_) ->
    {Client, Server} = Pair = pair(),
    [receiver(Server, N, infinity) || N <- lists:seq(1, 3)],
    ok = curve_tun:close(Client),
    [receive {N, Said} -> {error, closed} = Said end || N <- lists:seq(1, 3)],
    stop_pair(Pair).

waiting_data_then_closed(_) ->
    {Client, Server} = Pair = pair(),
    ok = curve_tun:send_many(Client, [<<"1">>, <<"2">>]),
    ok = curve_tun:close(Client),
    until(fun() -> curve_tun:peername(Server) =:= {error, closed} end),
    <<"1">> = curve_tun:recv(Server),
    <<"2">> = curve_tun:recv(Server),
    [{error, closed} = curve_tun:recv(Server, infinity) || _ <- lists:seq(1, 3)],
    stop_pair(Pair).

setting_active_leaves_those_who_wait_first(_) ->
    {Client, Server} = Pair = pair(),
    receiver(Server, first, infinity),
    ok = curve_tun:setopts(Server, [{active, true}]),
    ok = curve_tun:send_many(Client, [<<"1">>, <<"2">>]),
    receive {first, <<"1">>} -> ok end,
    <<"2">> = curve_tun_test:message(Server),
    stop_pair(Pair).

%% 500 MB to an end that never reads: the data waiting here stays bounded, and the sender is
%% blocked.
a_peer_that_is_not_read_blocks(_) ->
    {Client, Server} = pair([{high_watermark, 1048576}, {send_timeout, infinity}], []),
    Message = binary:copy(<<1>>, 50000),
    Sender = spawn(fun() -> [ok = curve_tun:send(Client, Message) || _ <- lists:seq(1, 10000)] end),
    until(fun() -> stopped(Client) end),
    {curve_tun_socket, Connection, _, _} = Server,
    {_, #{waiting_bytes := Waiting}} = state_of(Connection),
    %% The high-water mark, and one read of the socket on top.
    ?assert(Waiting =< 262144 + 8 * 262144),
    ?assert(is_process_alive(Sender)),
    %% What is garbage already does not wait.
    true = erlang:garbage_collect(Connection),
    {binary, Binaries} = process_info(Connection, binary),
    Held = lists:sum([Size || {_, Size, _} <- lists:usort(Binaries)]),
    ?assert(Held < 4000000, Held),
    %% It continues when messages are read.
    [Message = curve_tun:recv(Server) || _ <- lists:seq(1, 1000)],
    exit(Sender, kill),
    stop_pair({Client, Server}).

%% Says whether the sender's socket has taken nothing for a while.
stopped(Socket) ->
    {ok, [{send_oct, Before}]} = inet:getstat(curve_tun_test:tcp_socket(Socket), [send_oct]),
    timer:sleep(300),
    {ok, [{send_oct, After}]} = inet:getstat(curve_tun_test:tcp_socket(Socket), [send_oct]),
    Before > 0 andalso Before =:= After.

state_of(Connection) ->
    {status, _, _, [_, _, _, _, Items]} = sys:get_status(Connection),
    hd([{State, Data} || {data, [{"State", {State, Data}}]} <- Items]).

many_frames_in_one_read(_) ->
    {Client, Server} = Pair = pair(),
    Messages = [<<N:16>> || N <- lists:seq(1, 20000)],
    ok = curve_tun:send_many(Client, Messages),
    ?assertEqual(Messages, [curve_tun:recv(Server) || _ <- Messages]),
    stop_pair(Pair).

one_byte_at_a_time(_) ->
    %% Some 700 bytes, each with a pause: on a busy machine that takes longer than the default
    %% handshake timeout.
    {Listener, Port} = curve_tun_test:listen([{handshake_timeout, 120000}]),
    Tcp = curve_tun_test:raw_connect(Port),
    Slowly = fun(Bytes) -> [begin ok = gen_tcp:send(Tcp, <<B>>), timer:sleep(1) end || <<B>> <= Bytes] end,
    Test = self(),
    spawn_link(fun() -> {ok, S} = curve_tun:accept(Listener, infinity), Test ! {got, curve_tun:recv(S)} end),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    Nif = curve_tun_nif:connection_new(),
    {ok, Hello} = curve_tun_nif:begin_client(Nif, Vault, Key),
    Slowly(Hello),
    {ok, Cookie} = gen_tcp:recv(Tcp, 170),
    {ok, connected, Initiate, <<>>, none} = curve_tun_nif:handshake(Nif, Cookie),
    Slowly(Initiate),
    ok = curve_tun_nif:established(Nif, 0),
    {ok, Frame, []} = curve_tun_nif:seal(Nif, [<<"slow">>]),
    Slowly(Frame),
    receive {got, <<"slow">>} -> ok end,
    gen_tcp:close(Tcp),
    ok = curve_tun:close(Listener).
