%%% Streams that are cut, and peers that break the rules of PROTOCOL.md, section 13: those speak the
%%% layer by hand, byte for byte.
-module(curve_tun_stream_faults_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/1, connect/2, raw_client/1, raw_send/2, message/1, until/1]).

-compile([export_all, nowarn_export_all]).

-define(RAW, [{packet, raw}]).
-define(LARGE, [{packet, 4}]).
-define(PATIENCE, 10000).
-define(OPEN, "\x03ctstrm01\x00\x00\x00\x00\x00").
-define(OPEN_LARGE, "\x03ctstrm01\x01\x00\x10\x00\x00").

suite() -> [{timetrap, {seconds, 180}}].

all() ->
    [a_cut_by_fin_is_no_end, a_cut_by_reset_is_no_end, a_cut_in_a_large_message, a_cut_of_an_active_socket,
     a_cut_after_the_end, a_server_that_is_cut,
     a_client_of_messages, a_client_that_says_nothing, a_client_that_is_refused_is_skipped, a_server_of_messages, the_other_mode,
     an_abort_in_place_of_open, rules_of_bytes, rules_of_large_messages, rules_of_open, a_message_over_the_limit,
     nothing_is_allocated_by_announcement, pings_are_answered, what_a_stream_looks_like].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), [{before, curve_tun_test:count()} | Config].
end_per_testcase(_, Config) -> curve_tun_test:settled(proplists:get_value(before, Config)).

%%% Cuts

%% A proxy that takes one connection to a port, and cuts both sides after so many bytes of the
%% client: by a FIN, or by a reset.
proxy(Port, Most, How) ->
    Test = self(),
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
    {ok, Own} = inet:port(Listen),
    Pid = spawn_link(fun() ->
              {ok, Client} = gen_tcp:accept(Listen),
              ok = gen_tcp:close(Listen),
              {ok, Server} = gen_tcp:connect({127,0,0,1}, Port, [binary, {active, false}, {nodelay, true}]),
              ok = inet:setopts(Client, [{active, true}]),
              ok = inet:setopts(Server, [{active, true}]),
              Test ! {self(), relay(Client, Server, Most, 0)},
              _ = [inet:setopts(S, [{linger, {true, 0}}]) || S <- [Client, Server], How =:= reset],
              gen_tcp:close(Server),
              gen_tcp:close(Client)
          end),
    {Pid, Own}.

%% Returns the number of bytes of the client.
relay(_Client, _Server, Most, Most) ->
    Most;
relay(Client, Server, Most, Count) ->
    receive
        {tcp, Client, Bytes} ->
            Size = case Most of infinity -> byte_size(Bytes); _ -> min(byte_size(Bytes), Most - Count) end,
            _ = gen_tcp:send(Server, binary:part(Bytes, 0, Size)),
            relay(Client, Server, Most, Count + Size);
        {tcp, Server, Bytes} ->
            _ = gen_tcp:send(Client, Bytes),
            relay(Client, Server, Most, Count);
        {tcp_closed, _} ->
            Count
    end.

%% A client that sends all, finishes, and awaits the end of the server: returns the server's socket.
%% The client's process lives until it is told to stop.
through(Most, How, Options, Messages) ->
    {Listener, Port} = listen(Options),
    {Proxy, Own} = proxy(Port, Most, How),
    Client = spawn_link(fun() ->
                 {ok, Socket} = connect(Own, lists:keydelete(active, 1, Options)),
                 _ = [curve_tun:send(Socket, Message) || Message <- Messages],
                 _ = curve_tun:shutdown(Socket, write),
                 receive stop -> curve_tun:close(Socket) end
             end),
    {ok, Server} = curve_tun:accept(Listener),
    ok = curve_tun:close(Listener),
    {Server, Client, Proxy}.

stop({Server, Client, Proxy}) ->
    Client ! stop,
    ok = curve_tun:close(Server),
    receive {Proxy, Count} -> Count end.

%% Bytes of a client in all.
whole(Options, Messages) ->
    {Server, _, _} = All = through(infinity, fin, Options, Messages),
    {closed, _} = all_of(Server),
    ok = curve_tun:shutdown(Server, write),
    stop(All).

all_of(Socket) -> all_of(Socket, []).

all_of(Socket, Acc) ->
    case curve_tun:recv(Socket, 0, ?PATIENCE) of
        {ok, Bytes} -> all_of(Socket, [Bytes | Acc]);
        {error, Reason} -> {Reason, lists:reverse(Acc)}
    end.

a_cut_by_fin_is_no_end(_) -> cut(fin).
a_cut_by_reset_is_no_end(_) -> cut(reset).

%% At each byte of the end, and at many others.
cut(How) ->
    Bytes = rand:bytes(150000),
    Whole = whole(?RAW, [Bytes]),
    Places = lists:seq(Whole - 60, Whole - 1) ++ [Whole - 60 - rand:uniform(149000) || _ <- lists:seq(1, 60)],
    [begin
         {Server, _, _} = All = through(Place, How, ?RAW, [Bytes]),
         {Reason, Parts} = all_of(Server),
         ?assertEqual({Place, truncated}, {Place, Reason}),
         Got = iolist_to_binary(Parts),
         ?assertEqual(byte_size(Got), binary:longest_common_prefix([Bytes, Got])),
         {error, closed} = curve_tun:recv(Server),
         {ok, Information} = curve_tun:connection_information(Server),
         {reason, truncated} = lists:keyfind(reason, 1, Information),
         Place = stop(All)
     end || Place <- Places].

%% A message that has come in part is not delivered.
a_cut_in_a_large_message(_) ->
    Messages = [<<"first">>, rand:bytes(400000)],
    Whole = whole(?LARGE, Messages),
    [begin
         {Server, _, _} = All = through(Place, How, ?LARGE, Messages),
         {truncated, Received} = all_of(Server),
         ?assert(lists:prefix(Received, Messages)),
         stop(All)
     end || How <- [fin, reset], Place <- [Whole - 1 | [Whole - rand:uniform(399000) || _ <- lists:seq(1, 20)]]].

a_cut_of_an_active_socket(_) ->
    Message = rand:bytes(1000),
    Whole = whole(?RAW, [Message]),
    [begin
         {Server, _, _} = All = through(Whole - 1, How, [{active, Mode} | ?RAW], [Message]),
         _ = How =:= fin andalso begin
             Message = message(Server),
             Mode =:= once andalso curve_tun:setopts(Server, [{active, once}])
         end,
         _ = How =:= reset andalso curve_tun:setopts(Server, [{active, true}]),
         ?assertEqual({error, truncated}, after_data(Server)),
         closed = message(Server),
         stop(All)
     end || How <- [fin, reset], Mode <- [true, once, 5]].

after_data(Socket) ->
    case message(Socket) of
        Bytes when is_binary(Bytes) -> after_data(Socket);
        Other -> Other
    end.

%% The end that was told stays; what this end sends fails.
a_cut_after_the_end(_) ->
    Whole = whole(?RAW, [<<"all">>]),
    {Server, _, _} = All = through(Whole, fin, [{active, true} | ?RAW], [<<"all">>]),
    <<"all">> = message(Server),
    the_end = message(Server),
    %% What the server had to say was not read: its system may hear of a reset before the end.
    case message(Server) of
        closed -> {error, closed} = curve_tun:recv(Server);
        {error, econnreset} -> {error, _} = curve_tun:recv(Server)
    end,
    {error, _} = curve_tun:send(Server, <<"late">>),
    stop(All).

%% At the client's end.
a_server_that_is_cut(_) ->
    {Listener, Port} = listen(?RAW),
    Test = self(),
    spawn_link(fun() ->
        {ok, Server} = curve_tun:accept(Listener),
        ok = curve_tun:send(Server, <<"some">>),
        {ok, <<"go">>} = curve_tun:recv(Server, 2, ?PATIENCE),
        Tcp = curve_tun_test:tcp_socket(Server),
        %% As its system does when the node is killed.
        ok = gen_tcp:shutdown(Tcp, write),
        Test ! cut,
        {error, _} = curve_tun:recv(Server, 1, infinity)
    end),
    {ok, Client} = connect(Port, ?RAW),
    {ok, <<"some">>} = curve_tun:recv(Client, 4, ?PATIENCE),
    ok = curve_tun:send(Client, <<"go">>),
    receive cut -> ok end,
    {error, truncated} = curve_tun:recv(Client, 1, ?PATIENCE),
    [ok = curve_tun:close(S) || S <- [Client, Listener]].

%%% Peers without a stream

%% Does the server's part of a handshake for each client.
handshake(Listener) ->
    {ok, Socket} = curve_tun:transport_accept(Listener),
    curve_tun:handshake(Socket).

a_client_of_messages(_) ->
    [begin
         {Listener, Port} = listen(Options),
         Test = self(),
         Pid = spawn_link(fun() -> Test ! {self(), handshake(Listener)} end),
         {ok, Client} = connect(Port, []),
         ok = curve_tun:send(Client, Message),
         receive {Pid, Result} -> ?assertEqual({error, not_a_stream}, Result) end,
         %% It is told nothing: it would take that for a message.
         {error, Reason} = curve_tun:recv(Client),
         ?assert(lists:member(Reason, [closed, econnreset])),
         [ok = curve_tun:close(S) || S <- [Client, Listener]]
     end || Options <- [?RAW, ?LARGE], Message <- [<<>>, <<"hello">>, <<0, "data">>, <<3>>, <<3, "ctstrm02", 0:40>>, rand:bytes(65503)]].

a_client_that_says_nothing(_) ->
    {Listener, Port} = listen([{handshake_timeout, 300} | ?RAW]),
    Test = self(),
    spawn_link(fun() -> Test ! {result, handshake(Listener)} end),
    {ok, Client} = connect(Port, []),
    receive {result, Result} -> ?assertEqual({error, timeout}, Result) end,
    {error, closed} = curve_tun:recv(Client),
    [ok = curve_tun:close(S) || S <- [Client, Listener]].

a_client_that_is_refused_is_skipped(_) ->
    {Listener, Port} = listen(?RAW),
    Test = self(),
    spawn_link(fun() ->
        {ok, Server} = curve_tun:accept(Listener),
        ok = curve_tun:controlling_process(Server, Test),
        Test ! {accepted, Server}
    end),
    {ok, Plain} = connect(Port, []),
    ok = curve_tun:send(Plain, <<"hello">>),
    {error, _} = curve_tun:recv(Plain),
    {ok, Client} = connect(Port, ?RAW),
    ok = curve_tun:send(Client, <<"hello">>),
    Server = receive {accepted, S} -> S end,
    {ok, <<"hello">>} = curve_tun:recv(Server, 5, ?PATIENCE),
    [ok = curve_tun:shutdown(Socket, write) || Socket <- [Client, Server]],
    [ok = curve_tun:close(Socket) || Socket <- [Plain, Client, Server, Listener]].

a_server_of_messages(_) ->
    [begin
         {Listener, Port} = listen([]),
         spawn_link(fun() ->
             {ok, Server} = curve_tun:accept(Listener),
             %% To a program of messages OPEN is one.
             <<3, "ctstrm01", _/binary>> = curve_tun:recv(Server),
             ok = curve_tun:send(Server, <<"what?">>),
             Other = curve_tun:recv(Server),
             ?assert(lists:member(Other, [{error, closed}, {error, econnreset}]))
         end),
         {ok, Client} = connect(Port, [{active, Mode} | Options]),
         case Mode of
             false -> {error, not_a_stream} = curve_tun:recv(Client);
             true -> {error, not_a_stream} = message(Client), closed = message(Client)
         end,
         {error, closed} = curve_tun:send(Client, <<"late">>),
         [ok = curve_tun:close(S) || S <- [Client, Listener]]
     end || Options <- [?RAW, ?LARGE], Mode <- [false, true]].

the_other_mode(_) ->
    [begin
         {Listener, Port} = listen(AtServer),
         Test = self(),
         Pid = spawn_link(fun() -> Test ! {self(), handshake(Listener)} end),
         {ok, Client} = connect(Port, AtClient),
         receive {Pid, Result} -> ?assertEqual({error, bad_packet}, Result) end,
         {error, {aborted, 1}} = curve_tun:recv(Client),
         [ok = curve_tun:close(S) || S <- [Client, Listener]]
     end || {AtServer, AtClient} <- [{?RAW, ?LARGE}, {?LARGE, ?RAW}]].

%%% Peers that break a rule

%% Connects by hand, sends the messages, and returns what the handshake of the server gave.
by_hand(Options, Messages) ->
    {Listener, Port} = listen(Options),
    Test = self(),
    Pid = spawn_link(fun() ->
              Result = handshake(Listener),
              _ = [ok = curve_tun:controlling_process(Socket, Test) || {ok, Socket} <- [Result]],
              Test ! {self(), Result}
          end),
    Peer = raw_client(Port),
    _ = raw_send(Peer, Messages),
    receive {Pid, Result} -> ok = curve_tun:close(Listener), {Peer, Result} end.

%% Returns the messages that come to a peer by hand, at least so many, or all until the end.
raw_recv(Peer, Count) -> raw_recv(Peer, Count, []).

raw_recv(_Peer, Count, Messages) when length(Messages) >= Count ->
    Messages;
raw_recv({Tcp, Nif, _} = Peer, Count, Messages) ->
    case gen_tcp:recv(Tcp, 0, ?PATIENCE) of
        {ok, Bytes} ->
            {More, <<>>, ok} = curve_tun_nif:open(Nif, Bytes),
            raw_recv(Peer, Count, Messages ++ More);
        {error, closed} ->
            Messages
    end.

raw_close({Tcp, Nif, _}) ->
    ok = curve_tun_nif:close(Nif),
    gen_tcp:close(Tcp).

an_abort_in_place_of_open(_) ->
    {Peer, {error, {aborted, 6}}} = by_hand(?RAW, [<<2, 6:16, "no such service">>]),
    raw_close(Peer).

%% Each after a good OPEN and some data: these come first, then the failure, and the peer is told.
rules_of_bytes(_) ->
    [broken(?RAW, <<?OPEN>>, <<?OPEN>>, Bad)
     || Bad <- [<<>>, <<0>>, <<1, 0>>, <<?OPEN>>, <<4, 65503:32, 0>>, <<5, 0>>, <<6, 0:64>>, <<7>>, <<255>>, <<2>>, <<2, 0>>,
                <<2, 0:16, 255>>, <<2, 0:16, (binary:copy(<<"a">>, 256))/binary>>]].

rules_of_large_messages(_) ->
    [broken(?LARGE, <<?OPEN_LARGE>>, <<3, "ctstrm01", 1, 16#1000000:32>>, Bad)
     || Bad <- [<<4, 65502:32, 0>>, <<4, 65503:32>>, <<4, 0>>]].

broken(Options, Open, Answer, Bad) ->
    {Peer, {ok, Server}} = by_hand(Options, [Open, <<0, "good">>]),
    {ok, <<"good">>} = curve_tun:recv(Server, 0, ?PATIENCE),
    [Answer] = raw_recv(Peer, 1),
    _ = raw_send(Peer, [Bad, <<0, "dropped">>]),
    ?assertEqual({Bad, {error, bad_packet}}, {Bad, curve_tun:recv(Server)}),
    {error, closed} = curve_tun:send(Server, <<"late">>),
    ?assertEqual([<<2, 1:16>>], raw_recv(Peer, 2)),
    raw_close(Peer),
    ok = curve_tun:close(Server).

%% An end that cannot be opened is refused in the handshake.
rules_of_open(_) ->
    [begin
         {Peer, Result} = by_hand(?RAW, [<<3, "ctstrm01", Bad/binary>>]),
         ?assertEqual({Bad, {error, bad_packet}}, {Bad, Result}),
         ?assertEqual([<<2, 1:16>>], raw_recv(Peer, 2)),
         raw_close(Peer)
     end || Bad <- [<<>>, <<0>>, <<2, 0:32>>, <<0, 1:32>>, <<1, 65501:32>>, <<0, 0:32, 1>>, <<0, 0:32, 1, 0:16>>, <<0, 0:32, 1, 1:16, "A">>,
                    <<0, 0:32, 1, 1:16, "a", 1, 1:16, "a">>, <<0, 0:32, 200, 0:16>>]],
    %% A field that is not known is passed over.
    {Peer, {ok, Server}} = by_hand(?RAW, [<<3, "ctstrm01", 0, 0:32, 1, 2:16, "ab", 100, 1:16, "x">>]),
    {ok, Information} = curve_tun:connection_information(Server),
    {service, <<"ab">>} = lists:keyfind(service, 1, Information),
    raw_close(Peer),
    ok = curve_tun:close(Server).

a_message_over_the_limit(_) ->
    {Peer, {ok, Server}} = by_hand([{packet_size, 100000} | ?LARGE], [<<?OPEN_LARGE>>]),
    [<<3, "ctstrm01", 1, 100000:32>>] = raw_recv(Peer, 1),
    _ = raw_send(Peer, [<<4, 100000:32, 0:(8 * 65498)>>, <<0, 1:(8 * 34502)>>]),
    Message = curve_tun:recv(Server),
    ?assertEqual(<<1:(8 * 100000)>>, Message),
    _ = raw_send(Peer, [<<4, 100001:32, 0>>]),
    {error, emsgsize} = curve_tun:recv(Server),
    [<<2, 10:16>>] = raw_recv(Peer, 2),
    raw_close(Peer),
    ok = curve_tun:close(Server).

nothing_is_allocated_by_announcement(_) ->
    {Peer, {ok, Server}} = by_hand([{packet_size, 16#ffffffff} | ?LARGE], [<<?OPEN_LARGE>>]),
    [_] = raw_recv(Peer, 1),
    Before = resident(),
    _ = raw_send(Peer, [<<4, 16#ffffffff:32, 0>>, <<0, 0:(8 * 1000)>>, <<5, 1:64>>]),
    %% What was sent before has been taken.
    [<<6, 1:64>>] = raw_recv(Peer, 1),
    ?assert(resident() - Before < 100 bsl 20),
    raw_close(Peer),
    {error, truncated} = curve_tun:recv(Server),
    ok = curve_tun:close(Server).

resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:lexemes(Text, " "),
    4096 * binary_to_integer(Pages).

%% By a program that neither reads nor writes, also after it has finished, and within a message.
pings_are_answered(_) ->
    {Peer, {ok, Server}} = by_hand(?LARGE, [<<?OPEN_LARGE>>]),
    [_] = raw_recv(Peer, 1),
    [begin
         _ = raw_send(Peer, [<<5, N:64>>]),
         [<<6, N:64>>] = raw_recv(Peer, 1)
     end || N <- [0, 1, 16#ffffffffffffffff]],
    _ = raw_send(Peer, [<<4, 65504:32, 0:(8 * 65498)>>, <<5, 2:64>>, <<0, 1:48>>]),
    [<<6, 2:64>>] = raw_recv(Peer, 1),
    Message = curve_tun:recv(Server),
    ?assertEqual(<<1:(8 * 65504)>>, Message),
    ok = curve_tun:shutdown(Server, write),
    [<<1>>] = raw_recv(Peer, 1),
    _ = raw_send(Peer, [<<5, 3:64>>]),
    [<<6, 3:64>>] = raw_recv(Peer, 1),
    _ = raw_send(Peer, [<<1>>]),
    {error, closed} = curve_tun:recv(Server),
    [] = raw_recv(Peer, 1),
    raw_close(Peer).

%% What a program sends, as messages of the tunnel.
what_a_stream_looks_like(_) ->
    {Peer, {ok, Server}} = by_hand(?RAW, [<<?OPEN>>]),
    [<<?OPEN>>] = raw_recv(Peer, 1),
    ok = curve_tun:send(Server, <<"abc">>),
    [<<0, "abc">>] = raw_recv(Peer, 1),
    Bytes = rand:bytes(65503),
    ok = curve_tun:send(Server, Bytes),
    ok = curve_tun:shutdown(Server, write),
    [First, Second, <<1>>] = raw_recv(Peer, 3),
    ?assertEqual({65503, 2, <<0, Bytes/binary>>}, {byte_size(First), byte_size(Second), iolist_to_binary([First, binary:part(Second, 1, 1)])}),
    _ = raw_send(Peer, [<<1>>]),
    {error, closed} = curve_tun:recv(Server),
    raw_close(Peer),
    {Large, {ok, Other}} = by_hand(?LARGE, [<<?OPEN_LARGE>>]),
    [_] = raw_recv(Large, 1),
    ok = curve_tun:send(Other, <<0, Bytes/binary>>),
    [Begin, Rest] = raw_recv(Large, 2),
    ?assertEqual(<<4, 65504:32, 0, Bytes/binary>>, iolist_to_binary([Begin, binary:part(Rest, 1, byte_size(Rest) - 1)])),
    ok = curve_tun_stream:abort(Other, 9),
    [<<2, 9:16>>] = raw_recv(Large, 2),
    raw_close(Large).
