%%% The active modes, and the messages at the end of a connection.
-module(curve_tun_active_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/1, pair/2, stop_pair/1, message/1, no_message/0]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [true_delivers_all, once_delivers_one, a_count_delivers_so_many, counts_add_up, false_delivers_none,
     recv_is_refused_in_active_modes, messages_and_close_keep_their_order, five_messages_and_one_close_with_once,
     a_passive_socket_hears_of_the_close_when_set_active, a_bad_packet_is_an_error_and_a_close,
     a_bad_packet_is_noticed_without_recv, messages_before_a_bad_packet_are_delivered,
     a_reset_is_told, switching_modes_loses_nothing, a_flood_is_bounded_but_in_true].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

true_delivers_all(_) ->
    {Client, Server} = Pair = pair([], [{active, true}]),
    [ok = curve_tun:send(Client, <<N>>) || N <- lists:seq(1, 100)],
    [?assertEqual(<<N>>, message(Server)) || N <- lists:seq(1, 100)],
    ok = curve_tun:close(Client),
    closed = message(Server),
    no_message(),
    {error, closed} = curve_tun:recv(Server),
    stop_pair(Pair).

once_delivers_one(_) ->
    {Client, Server} = Pair = pair([], [{active, once}]),
    ok = curve_tun:send_many(Client, [<<"1">>, <<"2">>, <<"3">>]),
    <<"1">> = message(Server),
    no_message(),
    {ok, [{active, false}]} = curve_tun:getopts(Server, [active]),
    ok = curve_tun:setopts(Server, [{active, once}]),
    <<"2">> = message(Server),
    no_message(),
    <<"3">> = curve_tun:recv(Server),
    stop_pair(Pair).

a_count_delivers_so_many(_) ->
    {Client, Server} = Pair = pair([], [{active, 3}]),
    ok = curve_tun:send_many(Client, [<<N>> || N <- lists:seq(1, 5)]),
    [?assertEqual(<<N>>, message(Server)) || N <- lists:seq(1, 3)],
    passive = message(Server),
    no_message(),
    <<4>> = curve_tun:recv(Server),
    <<5>> = curve_tun:recv(Server),
    stop_pair(Pair).

counts_add_up(_) ->
    {Client, Server} = Pair = pair([], []),
    ok = curve_tun:setopts(Server, [{active, 3}]),
    ok = curve_tun:setopts(Server, [{active, 2}]),
    {ok, [{active, 5}]} = curve_tun:getopts(Server, [active]),
    {error, einval} = curve_tun:setopts(Server, [{active, 32765}]),
    ok = curve_tun:setopts(Server, [{active, -4}]),
    ok = curve_tun:send(Client, <<"1">>),
    <<"1">> = message(Server),
    passive = message(Server),
    %% A count that falls below one makes the socket passive at once.
    ok = curve_tun:setopts(Server, [{active, 2}]),
    ok = curve_tun:setopts(Server, [{active, -7}]),
    passive = message(Server),
    {ok, [{active, false}]} = curve_tun:getopts(Server, [active]),
    stop_pair(Pair).

false_delivers_none(_) ->
    {Client, Server} = Pair = pair([], []),
    ok = curve_tun:send(Client, <<"1">>),
    no_message(),
    <<"1">> = curve_tun:recv(Server),
    stop_pair(Pair).

recv_is_refused_in_active_modes(_) ->
    {_, Server} = Pair = pair([], []),
    [begin
         ok = curve_tun:setopts(Server, [{active, Mode}]),
         {error, einval} = curve_tun:recv(Server, 1000)
     end || Mode <- [true, once, 5]],
    ok = curve_tun:setopts(Server, [{active, false}]),
    {error, timeout} = curve_tun:recv(Server, 1),
    stop_pair(Pair).

messages_and_close_keep_their_order(_) ->
    [begin
         {Client, Server} = Pair = pair([], [{active, true}]),
         Messages = [crypto:strong_rand_bytes(1000) || _ <- lists:seq(1, 200)],
         ok = curve_tun:send_many(Client, Messages),
         ok = curve_tun:close(Client),
         ?assertEqual(Messages ++ [closed], [message(Server) || _ <- [close | Messages]]),
         stop_pair(Pair)
     end || _ <- lists:seq(1, 20)].

five_messages_and_one_close_with_once(_) ->
    {Client, Server} = Pair = pair([], [{active, once}]),
    [ok = curve_tun:send(Client, <<N>>) || N <- lists:seq(1, 5)],
    ok = curve_tun:close(Client),
    [begin
         ?assertEqual(<<N>>, message(Server)),
         no_message(),
         ok = curve_tun:setopts(Server, [{active, once}])
     end || N <- lists:seq(1, 5)],
    closed = message(Server),
    no_message(),
    {error, closed} = curve_tun:recv(Server),
    {error, closed} = curve_tun:recv(Server),
    stop_pair(Pair).

a_passive_socket_hears_of_the_close_when_set_active(_) ->
    {Client, Server} = Pair = pair([], []),
    ok = curve_tun:send(Client, <<"1">>),
    ok = curve_tun:close(Client),
    no_message(),
    ok = curve_tun:setopts(Server, [{active, true}]),
    <<"1">> = message(Server),
    closed = message(Server),
    no_message(),
    stop_pair(Pair).

%% Returns a raw peer and the server's end of its connection.
raw_pair(Options) ->
    {Listener, Port} = curve_tun_test:listen(Options),
    Test = self(),
    Acceptor = spawn_link(fun() ->
                   {ok, Server} = curve_tun:accept(Listener, 5000),
                   ok = curve_tun:controlling_process(Server, Test),
                   Test ! {self(), Server}
               end),
    Peer = curve_tun_test:raw_client(Port),
    receive {Acceptor, Server} -> {Peer, Server} end.

a_bad_packet_is_an_error_and_a_close(_) ->
    {{Tcp, _, _}, Server} = raw_pair([{active, true}]),
    ok = gen_tcp:send(Tcp, curve_tun_test:frame(<<0:800>>)),
    {error, bad_packet} = message(Server),
    closed = message(Server),
    no_message(),
    %% Nothing was sent on the wire about the reason.
    <<>> = curve_tun_test:raw_closed(Tcp).

a_bad_packet_is_noticed_without_recv(_) ->
    {{Tcp, _, _}, Server} = raw_pair([]),
    ok = gen_tcp:send(Tcp, curve_tun_test:frame(<<>>)),
    <<>> = curve_tun_test:raw_closed(Tcp),
    {error, closed} = curve_tun:send(Server, <<"x">>),
    {error, bad_packet} = curve_tun:recv(Server, infinity),
    {error, closed} = curve_tun:recv(Server, infinity),
    no_message().

messages_before_a_bad_packet_are_delivered(_) ->
    {{Tcp, Nif, _}, Server} = raw_pair([]),
    {ok, Frames, []} = curve_tun_nif:seal(Nif, [<<"1">>, <<"2">>]),
    {ok, Third, []} = curve_tun_nif:seal(Nif, [<<"3">>]),
    Size = byte_size(Third) - 1,
    <<Head:Size/binary, Last>> = Third,
    ok = gen_tcp:send(Tcp, [Frames, Head, Last bxor 1, Third]),
    <<>> = curve_tun_test:raw_closed(Tcp),
    <<"1">> = curve_tun:recv(Server),
    ok = curve_tun:setopts(Server, [{active, once}]),
    <<"2">> = message(Server),
    ok = curve_tun:setopts(Server, [{active, once}]),
    {error, bad_packet} = message(Server),
    closed = message(Server),
    {error, closed} = curve_tun:recv(Server).

a_reset_is_told(_) ->
    {{Tcp, _, _} = Peer, Server} = raw_pair([]),
    _ = curve_tun_test:raw_send(Peer, [<<"before">>]),
    <<"before">> = curve_tun:recv(Server),
    ok = inet:setopts(Tcp, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Tcp),
    {error, econnreset} = curve_tun:recv(Server),
    {error, closed} = curve_tun:recv(Server),
    {error, closed} = curve_tun:send(Server, <<"x">>).

switching_modes_loses_nothing(_) ->
    {Client, Server} = Pair = pair([], []),
    Count = 3000,
    spawn_link(fun() -> [ok = curve_tun:send(Client, <<N:32>>) || N <- lists:seq(1, Count)] end),
    take_in_all_modes(Server, 1, Count),
    no_message(),
    stop_pair(Pair).

take_in_all_modes(_Server, Next, Count) when Next > Count ->
    ok;
take_in_all_modes(Server, Next, Count) ->
    case rand:uniform(3) of
        1 ->
            <<Next:32>> = curve_tun:recv(Server),
            take_in_all_modes(Server, Next + 1, Count);
        2 ->
            ok = curve_tun:setopts(Server, [{active, once}]),
            <<Next:32>> = message(Server),
            take_in_all_modes(Server, Next + 1, Count);
        3 ->
            N = min(rand:uniform(20), Count - Next + 1),
            ok = curve_tun:setopts(Server, [{active, N}]),
            [<<I:32>> = message(Server) || I <- lists:seq(Next, Next + N - 1)],
            passive = message(Server),
            take_in_all_modes(Server, Next + N, Count)
    end.

%% What the README says of a peer that sends as fast as it can. With `once', a number and `false'
%% the mailbox holds no more than was asked for, and the connection holds the high-water mark and
%% what has been read by then. After that the peer has to wait, here until its timeout. With `true'
%% all of it is in the mailbox.
a_flood_is_bounded_but_in_true(_) ->
    {HighWater, Buffer, Size} = {65536, 16384, 1000},
    [begin
         {Client, {curve_tun_socket, Pid, _, _} = Server} = Pair =
             pair([{sndbuf, 4096}, {high_watermark, 4096}, {low_watermark, 1024},
                   {send_timeout, if Mode =:= true -> infinity; true -> 2000 end}],
                  [{active, Mode}, {receive_high_water, HighWater}, {buffer, Buffer}, {recbuf, 4096}]),
         Test = self(),
         Flood = fun Flood(N) ->
                     case N < 3000 andalso curve_tun:send(Client, <<N:32, 0:Size/unit:8>>) of
                         ok -> Flood(N + 1);
                         false -> Test ! {sent, N};
                         {error, timeout} -> Test ! {waits, N}
                     end
                 end,
         _ = spawn_link(fun() -> Flood(0) end),
         case Mode of
             true ->
                 receive {sent, 3000} -> ok end,
                 curve_tun_test:until(fun() -> arrived(Server) =:= lists:seq(0, 2999) end);
             _ ->
                 receive {waits, Sent} -> ok end,
                 Asked = maps:get(Mode, #{false => 0, once => 1, 10 => 10}),
                 ?assertEqual(lists:seq(0, Asked - 1), arrived(Server)),
                 {_, Data} = sys:get_state(Pid),
                 [Waiting] = [curve_tun_receivers:bytes(Rx) || Rx <- tuple_to_list(Data), is_tuple(Rx), element(1, Rx) =:= receivers],
                 ?assert(Waiting >= HighWater),
                 ?assert(Waiting =< HighWater + 8 * Buffer),
                 ?assert(Sent < 3000)
         end,
         curve_tun_test:flush(),
         stop_pair(Pair),
         curve_tun_test:flush()
     end || Mode <- [false, once, 10, true]].

%% Returns the numbers of a socket's messages in the mailbox.
arrived(Socket) ->
    {messages, Messages} = process_info(self(), messages),
    [N || {curve_tun, S, <<N:32, _/binary>>} <- Messages, S =:= Socket].
