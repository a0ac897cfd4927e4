%%% The first messages of a client go to the process that accepts it, in the active mode of its
%%% listener.
-module(curve_tun_accepted_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/1, connect/1, connect/2, message/1, no_message/0, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [they_reach_who_accepts, they_reach_who_does_the_handshake, once_gives_one_at_a_time, a_count_gives_so_many,
     one_that_timed_out_leaves_them_to_the_next, one_that_died_leaves_them_to_the_next,
     one_that_has_not_come_back_gets_none, they_go_on_with_the_connection, they_go_on_when_the_connection_is_over,
     a_passive_one_that_is_over_is_handed_over, a_count_that_is_used_up_is_told].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

-define(FIVE, [<<1>>, <<2>>, <<3>>, <<4>>, <<5>>]).

%% Starts clients that send five messages as soon as they can, and close.
clients(Port, Count) ->
    [spawn_link(fun() -> {ok, Client} = connect(Port), ok = curve_tun:send_many(Client, ?FIVE), ok = curve_tun:close(Client) end)
     || _ <- lists:seq(1, Count)].

%% Expects the five messages in an active mode, and the end.
five_in(Socket, true) ->
    ?assertEqual(?FIVE ++ [closed], [message(Socket) || _ <- [closed | ?FIVE]]);
five_in(Socket, once) ->
    [begin ?assertEqual(Each, message(Socket)), ok = curve_tun:setopts(Socket, [{active, once}]) end || Each <- ?FIVE],
    closed = message(Socket);
five_in(Socket, 3) ->
    ?assertEqual([<<1>>, <<2>>, <<3>>, passive], [message(Socket) || _ <- lists:seq(1, 4)]),
    ok = curve_tun:setopts(Socket, [{active, 3}]),
    ?assertEqual([<<4>>, <<5>>, closed], [message(Socket) || _ <- lists:seq(1, 3)]);
five_in(Socket, false) ->
    ?assertEqual(?FIVE ++ [{error, closed}], [curve_tun:recv(Socket) || _ <- [closed | ?FIVE]]).

they_reach_who_accepts(_) ->
    [begin
         {Listener, Port} = listen([{active, Mode}]),
         _ = clients(Port, 25),
         [begin {ok, Socket} = curve_tun:accept(Listener), five_in(Socket, Mode) end || _ <- lists:seq(1, 25)],
         ok = curve_tun:close(Listener),
         no_message()
     end || Mode <- [true, once, 3, false]].

they_reach_who_does_the_handshake(_) ->
    [begin
         {Listener, Port} = listen([{active, Mode}]),
         _ = clients(Port, 10),
         [begin
              {ok, Socket} = curve_tun:transport_accept(Listener),
              {ok, Socket} = curve_tun:handshake(Socket),
              five_in(Socket, Mode)
          end || _ <- lists:seq(1, 10)],
         ok = curve_tun:close(Listener),
         no_message()
     end || Mode <- [true, once, 3, false]].

once_gives_one_at_a_time(_) ->
    {Socket, _} = accepted([{active, once}], fun(Client) -> ok = curve_tun:send_many(Client, ?FIVE) end),
    <<1>> = message(Socket),
    no_message(),
    {ok, [{active, false}]} = curve_tun:getopts(Socket, [active]),
    <<2>> = curve_tun:recv(Socket),
    ok = curve_tun:close(Socket).

a_count_gives_so_many(_) ->
    {Socket, _} = accepted([{active, 2}], fun(Client) -> ok = curve_tun:send_many(Client, ?FIVE) end),
    [<<1>>, <<2>>, passive] = [message(Socket) || _ <- lists:seq(1, 3)],
    no_message(),
    <<3>> = curve_tun:recv(Socket),
    ok = curve_tun:close(Socket).

%% Returns the server's end of a client that does something once it is connected, and the client.
accepted(Options, Do) ->
    {Listener, Port} = listen(Options),
    Test = self(),
    spawn_link(fun() -> {ok, Client} = connect(Port), Do(Client), Test ! {client, Client}, receive never -> ok end end),
    {ok, Socket} = curve_tun:accept(Listener),
    Client = receive {client, C} -> C end,
    ok = curve_tun:close(Listener),
    {Socket, Client}.

%% Starts a client whose handshake has begun during an accept; it finishes, with five messages, when
%% nobody accepts any more.
begun_and_left(Leave) ->
    {{curve_tun_listen_socket, Pid} = Listener, Port} = listen([{active, true}]),
    1 = erlang:trace(Pid, true, ['receive']),
    Accepter = spawn(fun() -> exit(curve_tun:accept(Listener, 2000)) end),
    Ref = monitor(process, Accepter),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    Nif = curve_tun_nif:connection_new(),
    {ok, Hello} = curve_tun_nif:begin_client(Nif, Vault, Key),
    ok = gen_tcp:send(Tcp, Hello),
    {ok, Cookie} = gen_tcp:recv(Tcp, 170, 10000),
    Leave(Accepter),
    receive {'DOWN', Ref, process, Accepter, _} -> ok end,
    {ok, connected, Initiate, <<>>, none} = curve_tun_nif:handshake(Nif, Cookie),
    ok = curve_tun_nif:established(Nif, 0),
    {ok, Frames, []} = curve_tun_nif:seal(Nif, ?FIVE),
    ok = gen_tcp:send(Tcp, [Initiate, Frames]),
    until(fun() -> lists:any(fun(C) -> waiting_bytes(C) > 0 end, curve_tun_connection_sup:children()) end),
    {ok, Socket} = curve_tun:accept(Listener),
    [?assertEqual(Each, message(Socket)) || Each <- ?FIVE],
    ok = gen_tcp:close(Tcp),
    closed = message(Socket),
    ok = curve_tun:close(Listener),
    %% The listener has received none of them.
    Traced = fun Traced() -> receive {trace, Pid, 'receive', Message} -> [Message | Traced()] after 0 -> [] end end,
    Received = Traced(),
    ?assertNotEqual([], Received),
    [] = [Message || {Kind, _, _} = Message <- Received, Kind =:= curve_tun],
    no_message().

waiting_bytes(Connection) ->
    {status, _, _, [_, _, _, _, Items]} = sys:get_status(Connection),
    [#{waiting_bytes := Bytes}] = [Data || {data, [{"State", {_, Data}}]} <- Items],
    Bytes.

one_that_timed_out_leaves_them_to_the_next(_) -> begun_and_left(fun(_Accepter) -> ok end).

one_that_died_leaves_them_to_the_next(_) -> begun_and_left(fun(Accepter) -> exit(Accepter, kill) end).

%% A process is given a connection, and its listener dies before it knows: the connection belongs to
%% nobody.
one_that_has_not_come_back_gets_none(_) ->
    {{curve_tun_listen_socket, Pid} = Listener, Port} = listen([{active, true}]),
    Test = self(),
    Accepter = spawn_link(fun() ->
                   Test ! {accepted, curve_tun:accept(Listener, infinity)},
                   receive mailbox -> Test ! process_info(self(), messages) end
               end),
    until(fun() -> process_info(Accepter, status) =:= {status, waiting} end),
    true = erlang:suspend_process(Accepter),
    {ok, Client} = connect(Port),
    ok = curve_tun:send_many(Client, ?FIVE),
    until(fun() -> {message_queue_len, N} = process_info(Accepter, message_queue_len), N > 0 end),
    exit(Pid, kill),
    {error, closed} = curve_tun:recv(Client, infinity),
    true = erlang:resume_process(Accepter),
    receive {accepted, Accepted} -> ?assertEqual({error, closed}, Accepted) end,
    Accepter ! mailbox,
    receive {messages, Messages} -> ?assertEqual([], Messages) end.

they_go_on_with_the_connection(_) ->
    [begin
         {Socket, _} = accepted([{active, Mode}], fun(Client) ->
                           ok = curve_tun:send_many(Client, ?FIVE), ok = curve_tun:close(Client)
                       end),
         Test = self(),
         Second = spawn_link(fun() -> receive go -> five_in(Socket, Mode), no_message(), Test ! had_all end end),
         ok = curve_tun:controlling_process(Socket, Second),
         Second ! go,
         receive had_all -> ok end,
         no_message()
     end || Mode <- [true, once, 3, false], _ <- lists:seq(1, 10)].

%% The old controller has received everything, the end included.
they_go_on_when_the_connection_is_over(_) ->
    {{curve_tun_socket, Pid, _, _} = Socket, _} =
        accepted([{active, true}], fun(Client) -> ok = curve_tun:send_many(Client, ?FIVE), ok = curve_tun:close(Client) end),
    until(fun() -> not is_process_alive(Pid) end),
    Test = self(),
    Second = spawn_link(fun() -> receive go -> five_in(Socket, true), Test ! had_all end end),
    ok = curve_tun:controlling_process(Socket, Second),
    Second ! go,
    receive had_all -> ok end,
    %% Now it is only a closed socket.
    {error, closed} = curve_tun:controlling_process(Socket, Second),
    no_message().

a_passive_one_that_is_over_is_handed_over(_) ->
    {Socket, _} = accepted([], fun(Client) -> ok = curve_tun:send_many(Client, ?FIVE), ok = curve_tun:close(Client) end),
    until(fun() -> curve_tun:peername(Socket) =:= {error, closed} end),
    Test = self(),
    Second = spawn_link(fun() -> receive go -> five_in(Socket, false), Test ! had_all end end),
    ok = curve_tun:controlling_process(Socket, Second),
    Second ! go,
    receive had_all -> ok end,
    no_message().

%% As with gen_tcp: a count of zero or less makes the socket passive at once, with a message, at
%% either end.
a_count_that_is_used_up_is_told(_) ->
    [begin
         {Listener, Port} = listen([{active, Count}]),
         Test = self(),
         spawn_link(fun() ->
                        {ok, Client} = connect(Port, [{active, Count}]),
                        receive {curve_tun_passive, Client} -> ok end,
                        ok = curve_tun:send(Client, <<"message">>),
                        Test ! {done, curve_tun:recv(Client)}
                    end),
         {ok, Server} = curve_tun:accept(Listener),
         receive {curve_tun_passive, Server} -> ok end,
         ?assertEqual({ok, [{active, false}]}, curve_tun:getopts(Server, [active])),
         ?assertEqual(<<"message">>, curve_tun:recv(Server)),
         ok = curve_tun:close(Server),
         receive {done, {error, closed}} -> ok end,
         receive {curve_tun_passive, _} = Again -> ct:fail(Again) after 0 -> ok end,
         ok = curve_tun:close(Listener)
     end || Count <- [0, -5]].
