%%% Peers that violate the protocol, and what an attacker on the network can send.
-module(curve_tun_bad_peers_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/0, listen/1, connect/1, raw_connect/1, raw_client/1, raw_closed/1, frame/1, settled/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [a_recorded_connection_cannot_be_replayed, the_last_packet_twice, forged_then_right, bad_frames_in_every_state,
     a_bad_packet_is_one_line_at_debug_level, garbage_leaves_honest_peers_alone, a_server_that_answers_garbage,
     one_raw_peer_resets_with_data_waiting, half_close_delivers_all,
     a_failing_send_takes_nothing_away].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), ok = curve_tun_test_registry:behave(well), Config.
end_per_testcase(_, _) -> ok.

%% Returns a connected raw peer, and the server's end, whose controller is the caller.
raw_pair() ->
    raw_pair([]).

raw_pair(Options) ->
    {Listener, Port} = listen(Options),
    Test = self(),
    Acceptor = spawn_link(fun() ->
                   {ok, Server} = curve_tun:accept(Listener, 10000),
                   ok = curve_tun:controlling_process(Server, Test),
                   Test ! {self(), Server}
               end),
    Peer = raw_client(Port),
    receive {Acceptor, Server} -> ok end,
    ok = curve_tun:close(Listener),
    {Peer, Server}.

a_recorded_connection_cannot_be_replayed(_) ->
    {Listener, Port} = listen([{registry, curve_tun_test_registry}]),
    Test = self(),
    spawn_link(fun() ->
        {ok, S} = curve_tun:accept(Listener, 10000),
        Test ! {got, curve_tun:recv(S)},
        Test ! {accepted, curve_tun:accept(Listener, 2000)}
    end),
    {Tcp, Nif, {Hello, Initiate}} = raw_client(Port),
    {ok, Message, []} = curve_tun_nif:seal(Nif, [<<"once">>]),
    ok = gen_tcp:send(Tcp, Message),
    receive {got, <<"once">>} -> ok end,
    1 = curve_tun_test_registry:calls(),
    %% The same bytes on a new connection: all at once, and each after the answer to the previous
    %% one.
    Tcp2 = raw_connect(Port),
    ok = gen_tcp:send(Tcp2, [Hello, Initiate, Message]),
    %% The cookie may have been sent before the initiate is refused.
    true = lists:member(byte_size(raw_closed(Tcp2)), [0, 170]),
    Tcp3 = raw_connect(Port),
    ok = gen_tcp:send(Tcp3, Hello),
    {ok, _} = gen_tcp:recv(Tcp3, 170, 5000),
    ok = gen_tcp:send(Tcp3, [Initiate, Message]),
    <<>> = raw_closed(Tcp3),
    receive {accepted, Accepted} -> {error, timeout} = Accepted end,
    1 = curve_tun_test_registry:calls(),
    ok = curve_tun:close(Listener).

the_last_packet_twice(_) ->
    {{Tcp, _, _} = Peer, Server} = raw_pair([{active, true}]),
    Frame = curve_tun_test:raw_send(Peer, [<<"once">>]),
    ok = gen_tcp:send(Tcp, Frame),
    <<"once">> = curve_tun_test:message(Server),
    {error, bad_packet} = curve_tun_test:message(Server),
    closed = curve_tun_test:message(Server),
    curve_tun_test:no_message(),
    <<>> = raw_closed(Tcp).

forged_then_right(_) ->
    {{Tcp, Nif, _}, Server} = raw_pair(),
    {ok, <<Head:10/binary, Tag, Rest/binary>> = Right, []} = curve_tun_nif:seal(Nif, [<<"right">>]),
    _ = Head,
    Forged = <<(binary:part(Right, 0, 10))/binary, (Tag bxor 1), Rest/binary>>,
    ok = gen_tcp:send(Tcp, [Forged, Right]),
    {error, bad_packet} = curve_tun:recv(Server),
    <<>> = raw_closed(Tcp).

%% Frames that no state accepts: each is tried as the first packet, after the hello, and when
%% connected.
bad_frames() ->
    [<<0:16>>, frame(<<0:56>>), frame(<<0:(8 * 128)>>), frame(<<0:(8 * 224)>>), frame(<<0:(8 * 33)>>),
     frame(<<16#6d1b39cbf65a11b4:64, 2:64, 0:128>>), <<16#ffff:16, 0:(8 * 65535)>>].

bad_frames_in_every_state(_) ->
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    Before = curve_tun_test:count(),
    {Listener, Port} = listen(),
    Acceptor = spawn_link(fun Loop() ->
                   case curve_tun:accept(Listener, infinity) of
                       {ok, S} -> {error, bad_packet} = curve_tun:recv(S, infinity), Loop();
                       {error, closed} -> ok
                   end
               end),
    {ok, Hello} = curve_tun_nif:begin_client(curve_tun_nif:connection_new(), Vault, Key),
    [begin
         First = raw_connect(Port),
         ok = gen_tcp:send(First, Bad),
         <<>> = raw_closed(First),
         Second = raw_connect(Port),
         ok = gen_tcp:send(Second, Hello),
         {ok, _} = gen_tcp:recv(Second, 170, 5000),
         ok = gen_tcp:send(Second, Bad),
         <<>> = raw_closed(Second),
         {Third, _, _} = raw_client(Port),
         ok = gen_tcp:send(Third, Bad),
         <<>> = raw_closed(Third),
         {Fourth, _, {OldHello, _}} = raw_client(Port),
         ok = gen_tcp:send(Fourth, OldHello),
         <<>> = raw_closed(Fourth),
         [gen_tcp:close(T) || T <- [First, Second, Third, Fourth]]
     end || Bad <- bad_frames()],
    %% A length that no packet of the handshake has is refused before the rest arrives.
    Browser = raw_connect(Port),
    ok = gen_tcp:send(Browser, <<"GET / HTTP/1.1\r\n\r\n">>),
    <<>> = raw_closed(Browser),
    gen_tcp:close(Browser),
    ok = curve_tun:close(Listener),
    unlink(Acceptor),
    settled(Before).

a_bad_packet_is_one_line_at_debug_level(_) ->
    {{Tcp, _, _}, Server} = raw_pair(),
    Id = curve_tun_test:forward_log(debug),
    ok = gen_tcp:send(Tcp, frame(<<0:800>>)),
    {error, bad_packet} = curve_tun:recv(Server),
    <<>> = raw_closed(Tcp),
    timer:sleep(200),
    ok = logger:remove_handler(Id),
    ok = logger:set_primary_config(level, notice),
    [#{level := debug, msg := {Format, Arguments}}] = logged(),
    Line = lists:flatten(io_lib:format(Format, Arguments)),
    ?assertNotEqual(nomatch, string:find(Line, "bad_packet")),
    ?assertEqual(nomatch, string:find(Line, "\n")).

logged() ->
    receive {log, Event} -> [Event | logged()]
    after 0 -> []
    end.

%% While a series of raw peers sends garbage, all messages of an honest pair arrive.
garbage_leaves_honest_peers_alone(_) ->
    {Client, Server} = Pair = curve_tun_test:pair(),
    {Listener, Port} = listen(),
    spawn_link(fun Loop() ->
                   case curve_tun:accept(Listener, infinity) of
                       {ok, _} -> Loop();
                       {error, closed} -> ok
                   end
               end),
    Vandals = [spawn_link(fun() -> vandal(Port) end) || _ <- lists:seq(1, 4)],
    Messages = [crypto:strong_rand_bytes(500) || _ <- lists:seq(1, 3000)],
    spawn_link(fun() -> [ok = curve_tun:send(Client, M) || M <- Messages] end),
    ?assertEqual(Messages, [curve_tun:recv(Server) || _ <- Messages]),
    {ok, Honest} = connect(Port),
    [begin unlink(V), exit(V, kill) end || V <- Vandals],
    [ok = curve_tun:close(S) || S <- [Honest, Listener]],
    curve_tun_test:stop_pair(Pair).

vandal(Port) ->
    case gen_tcp:connect({127,0,0,1}, Port, [binary, {active, false}]) of
        {ok, Tcp} ->
            _ = gen_tcp:send(Tcp, crypto:strong_rand_bytes(1 + rand:uniform(3000))),
            _ = gen_tcp:recv(Tcp, 0, 1000),
            gen_tcp:close(Tcp),
            vandal(Port);
        {error, _} ->
            timer:sleep(10),
            vandal(Port)
    end.

a_server_that_answers_garbage(_) ->
    {ok, Key} = curve_tun:public_key(),
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Listen),
    [begin
         spawn_link(fun() ->
             {ok, Tcp} = gen_tcp:accept(Listen),
             {ok, _} = gen_tcp:recv(Tcp, 130),
             ok = gen_tcp:send(Tcp, Bytes),
             {error, closed} = gen_tcp:recv(Tcp, 0)
         end),
         ?assertEqual({error, Reason}, curve_tun:connect({127,0,0,1}, Port, [{key, Key}], 5000))
     end || {Bytes, Reason} <- [{<<0:16>>, bad_packet}, {frame(<<0:(8 * 168)>>), bad_packet},
                                {frame(<<16#1c45dcb941c0e3f6:64, 0:(8 * 160)>>), wrong_server_key},
                                {<<"HTTP/1.1 400 Bad Request\r\n">>, bad_packet}]],
    gen_tcp:close(Listen).

one_raw_peer_resets_with_data_waiting(_) ->
    {{Tcp, _, _} = Peer, Server} = raw_pair(),
    _ = curve_tun_test:raw_send(Peer, [<<N>> || N <- lists:seq(1, 5)]),
    <<1>> = curve_tun:recv(Server),
    ok = inet:setopts(Tcp, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Tcp),
    [?assertEqual(<<N>>, curve_tun:recv(Server)) || N <- lists:seq(2, 5)],
    {error, econnreset} = curve_tun:recv(Server),
    {error, closed} = curve_tun:recv(Server).

%% The peer sends something and leaves; this end notices by sending, and still receives what has
%% arrived.
a_failing_send_takes_nothing_away(_) ->
    {{Tcp, _, _} = Peer, Server} = raw_pair(),
    _ = curve_tun_test:raw_send(Peer, [<<N>> || N <- lists:seq(1, 5)]),
    _ = curve_tun_test:raw_send(Peer, [<<N, 0:(8 * 20000)>> || N <- lists:seq(6, 9)]),
    Sent = 130 + 226 + 9 * 35 + 4 * 20000,
    curve_tun_test:until(fun() -> {ok, S} = curve_tun:getstat(Server), proplists:get_value(recv_oct, S) >= Sent end),
    gen_tcp:close(Tcp),
    closed = send_until_error(Server),
    [<<N, _/binary>> = curve_tun:recv(Server) || N <- lists:seq(1, 9)],
    %% The reason is reported once; it is the reset, if the reset came before the end was noticed.
    {error, Reason} = curve_tun:recv(Server),
    true = lists:member(Reason, [closed, econnreset]),
    {error, closed} = curve_tun:recv(Server).

send_until_error(Socket) ->
    case curve_tun:send(Socket, <<"x">>) of
        ok -> send_until_error(Socket);
        {error, Reason} -> Reason
    end.

half_close_delivers_all(_) ->
    {{Tcp, _, _} = Peer, Server} = raw_pair(),
    Messages = [<<N:32, 0:(8 * 30000)>> || N <- lists:seq(1, 50)],
    spawn_link(fun() ->
        [curve_tun_test:raw_send(Peer, [M]) || M <- Messages],
        ok = gen_tcp:shutdown(Tcp, write),
        receive never -> ok end
    end),
    ?assertEqual(Messages, [curve_tun:recv(Server) || _ <- Messages]),
    {error, closed} = curve_tun:recv(Server).
