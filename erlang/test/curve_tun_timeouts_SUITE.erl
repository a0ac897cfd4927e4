%%% Deadlines: they hold from the start to the end of a call.
-module(curve_tun_timeouts_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, pair/2, stop_pair/1, connect/1, connect/2, listen/0, listen/1, no_message/0]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [an_abandoned_accept_takes_nobody, a_killed_accept_takes_nobody, accepts_are_served_in_order,
     a_peer_that_closes_in_the_handshake_is_noticed, a_peer_that_resets_in_the_handshake_is_noticed,
     a_silent_server_costs_the_deadline, a_silent_client_costs_the_deadline, one_deadline_for_the_whole_handshake,
     a_silent_client_keeps_nobody_waiting, a_peer_that_does_not_read_is_a_send_timeout,
     close_returns_though_the_peer_does_not_read, a_deadline_of_zero, listening_again_at_once].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

an_abandoned_accept_takes_nobody(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port} = listen(),
    {error, timeout} = curve_tun:accept(Listener, 20),
    {error, timeout} = curve_tun:accept(Listener, 0),
    Test = self(),
    spawn_link(fun() -> Test ! {first, curve_tun:accept(Listener, 100)} end),
    Second = spawn_link(fun() -> Test ! {second, curve_tun:accept(Listener, 20000)}, receive stop -> ok end end),
    receive {first, {error, timeout}} -> ok end,
    {ok, Client} = connect(Port),
    receive {second, {ok, Server}} -> ok end,
    ok = curve_tun:send(Server, <<"hello">>),
    <<"hello">> = curve_tun:recv(Client),
    Second ! stop,
    [ok = curve_tun:close(S) || S <- [Client, Listener]],
    no_message(),
    curve_tun_test:settled(Before).

a_killed_accept_takes_nobody(_) ->
    {Listener, Port} = listen(),
    Killed = spawn(fun() -> curve_tun:accept(Listener, infinity) end),
    curve_tun_test:until(fun() -> process_info(Killed, status) =:= {status, waiting} end),
    exit(Killed, kill),
    Test = self(),
    spawn_link(fun() -> Test ! {accepted, curve_tun:accept(Listener, 20000)}, receive never -> ok end end),
    {ok, Client} = connect(Port),
    receive {accepted, {ok, _}} -> ok end,
    {error, timeout} = curve_tun:recv(Client, 10),
    [ok = curve_tun:close(S) || S <- [Client, Listener]].

accepts_are_served_in_order(_) ->
    {Listener, Port} = listen(),
    Test = self(),
    [begin
         Pid = spawn_link(fun() -> Test ! {accepted, N, curve_tun:accept(Listener, 20000)}, receive never -> ok end end),
         curve_tun_test:until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
         {ok, _} = curve_tun:sockname(Listener)
     end || N <- lists:seq(1, 5)],
    [begin
         {ok, _} = connect(Port),
         receive {accepted, M, {ok, _}} -> ?assertEqual(N, M) end
     end || N <- lists:seq(1, 5)],
    ok = curve_tun:close(Listener).

%% A server that is a plain socket, at which connects fail.
plain_server(Serve) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Listen),
    spawn_link(fun Loop() ->
                   case gen_tcp:accept(Listen) of
                       {ok, Tcp} -> Serve(Tcp), Loop();
                       {error, closed} -> ok
                   end
               end),
    {Listen, Port}.

a_peer_that_closes_in_the_handshake_is_noticed(_) ->
    {ok, Key} = curve_tun:public_key(),
    {Listen, Port} = plain_server(fun(Tcp) -> {ok, _} = gen_tcp:recv(Tcp, 50), gen_tcp:close(Tcp) end),
    %% It has not read the whole hello: its system resets the transport.
    {error, econnreset} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}, {handshake_timeout, infinity}], infinity),
    {Listen2, Port2} = plain_server(fun(Tcp) -> gen_tcp:close(Tcp) end),
    %% It closes before or after the hello has arrived.
    [begin
         {error, Reason} = curve_tun:connect({127,0,0,1}, Port2, [{key, Key}], infinity),
         true = lists:member(Reason, [closed, econnreset])
     end || _ <- lists:seq(1, 50)],
    %% It has read it, and answers with a close, as a server does that cannot open the hello.
    {Listen3, Port3} = plain_server(fun(Tcp) -> {ok, _} = gen_tcp:recv(Tcp, 130), gen_tcp:close(Tcp) end),
    {error, wrong_server_key} = curve_tun:connect({127,0,0,1}, Port3, [{key, Key}], infinity),
    %% Half an answer counts as a close.
    {Listen4, Port4} = plain_server(fun(Tcp) ->
                                        {ok, _} = gen_tcp:recv(Tcp, 130),
                                        ok = gen_tcp:send(Tcp, <<168:16, 1>>),
                                        gen_tcp:close(Tcp)
                                    end),
    {error, closed} = curve_tun:connect({127,0,0,1}, Port4, [{key, Key}], infinity),
    [gen_tcp:close(L) || L <- [Listen, Listen2, Listen3, Listen4]],
    %% A client that closes costs the server nothing.
    {Listener, Port5} = listen(),
    Tcp = curve_tun_test:raw_connect(Port5),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    gen_tcp:close(Tcp),
    {error, closed} = curve_tun:handshake(Socket, infinity),
    ok = curve_tun:close(Listener).

a_peer_that_resets_in_the_handshake_is_noticed(_) ->
    {ok, Key} = curve_tun:public_key(),
    {Listen, Port} = plain_server(fun(Tcp) ->
                                      {ok, _} = gen_tcp:recv(Tcp, 130),
                                      ok = inet:setopts(Tcp, [{linger, {true, 0}}]),
                                      gen_tcp:close(Tcp)
                                  end),
    {error, econnreset} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}], infinity),
    gen_tcp:close(Listen).

a_silent_server_costs_the_deadline(_) ->
    {ok, Key} = curve_tun:public_key(),
    Before = curve_tun_test:count(),
    {Listen, Port} = plain_server(fun(_) -> ok end),
    {error, timeout} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}], 200),
    {error, timeout} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}, {handshake_timeout, 200}]),
    gen_tcp:close(Listen),
    curve_tun_test:settled(Before).

a_silent_client_costs_the_deadline(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port} = listen([{handshake_timeout, 200}]),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    {error, timeout} = curve_tun:handshake(Socket),
    <<>> = curve_tun_test:raw_closed(Tcp),
    Tcp2 = curve_tun_test:raw_connect(Port),
    {ok, Socket2} = curve_tun:transport_accept(Listener),
    {error, timeout} = curve_tun:handshake(Socket2, 10),
    %% A client with which nobody does the handshake is closed as well.
    Tcp3 = curve_tun_test:raw_connect(Port),
    {ok, Socket3} = curve_tun:transport_accept(Listener),
    <<>> = curve_tun_test:raw_closed(Tcp3),
    {error, closed} = curve_tun:handshake(Socket3),
    [gen_tcp:close(T) || T <- [Tcp, Tcp2, Tcp3]],
    ok = curve_tun:close(Listener),
    curve_tun_test:settled(Before).

%% A client that sends an occasional byte does not extend the deadline: its hello would take 13 s.
one_deadline_for_the_whole_handshake(_) ->
    {Listener, Port} = listen([{handshake_timeout, 600}]),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    {ok, Hello} = curve_tun_nif:begin_client(curve_tun_nif:connection_new(), Vault, Key),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    spawn_link(fun() -> [begin _ = gen_tcp:send(Tcp, <<B>>), timer:sleep(100) end || <<B>> <= Hello] end),
    {Time, {error, timeout}} = timer:tc(fun() -> curve_tun:handshake(Socket) end),
    ?assert(Time < 10000000),
    ok = curve_tun:close(Listener).

a_silent_client_keeps_nobody_waiting(_) ->
    {Listener, Port} = listen(),
    Silent = [curve_tun_test:raw_connect(Port) || _ <- lists:seq(1, 20)],
    Test = self(),
    spawn_link(fun() -> Test ! {accepted, curve_tun:accept(Listener)}, receive never -> ok end end),
    {ok, Client} = connect(Port),
    receive {accepted, {ok, _}} -> ok end,
    [gen_tcp:close(T) || T <- Silent],
    [ok = curve_tun:close(S) || S <- [Client, Listener]].

a_peer_that_does_not_read_is_a_send_timeout(_) ->
    {Client, Server} = pair([{high_watermark, 100000}, {send_timeout, 300}], []),
    timeout = send_until_error(Client),
    {error, closed} = curve_tun:send(Client, <<"x">>),
    %% The reason is reported once.
    {error, send_timeout} = curve_tun:recv(Client),
    {error, closed} = curve_tun:recv(Client),
    %% The peer receives whole messages and then the close.
    %% Data that it had not read when the end was reset is lost.
    true = lists:member(drain(Server), [closed, econnreset]),
    stop_pair({Client, Server}).

send_until_error(Socket) ->
    case curve_tun:send(Socket, <<0:(8 * 50000)>>) of
        ok -> send_until_error(Socket);
        {error, Reason} -> Reason
    end.

drain(Socket) ->
    case curve_tun:recv(Socket, 20000) of
        <<0:(8 * 50000)>> -> drain(Socket);
        {error, Reason} -> Reason
    end.

close_returns_though_the_peer_does_not_read(_) ->
    Before = curve_tun_test:count(),
    {Client, Server} = pair([{high_watermark, 100000}, {send_timeout, infinity}], []),
    Test = self(),
    spawn_link(fun() -> Test ! {sender, send_until_error(Client)} end),
    timer:sleep(500),
    {Time, ok} = timer:tc(fun() -> curve_tun:close(Client) end),
    ?assert(Time < 2000000),
    receive {sender, closed} -> ok end,
    ok = curve_tun:close(Server),
    curve_tun_test:settled(Before).

a_deadline_of_zero(_) ->
    {Listener, Port} = listen(),
    {error, timeout} = connect_with_no_time(Port),
    {Client, Server} = Pair = pair(),
    {error, timeout} = curve_tun:recv(Server, 0),
    ok = curve_tun:send(Client, <<"1">>),
    curve_tun_test:until(fun() -> curve_tun:recv(Server, 0) =:= <<"1">> end),
    stop_pair(Pair),
    ok = curve_tun:close(Listener).

connect_with_no_time(Port) ->
    {ok, Key} = curve_tun:public_key(),
    curve_tun:connect({127,0,0,1}, Port, [{key, Key}], 0).

listening_again_at_once(_) ->
    {Listener, Port} = listen([{reuseaddr, true}]),
    Test = self(),
    Acceptor = spawn_link(fun() ->
                   {ok, _} = curve_tun:accept(Listener, 20000),
                   Test ! accepted,
                   receive never -> ok end
               end),
    {ok, Client} = connect(Port),
    receive accepted -> ok end,
    {error, eaddrinuse} = curve_tun:listen(Port, [{ip, {127,0,0,1}}]),
    ok = curve_tun:close(Listener),
    {ok, Next} = curve_tun:listen(Port, [{ip, {127,0,0,1}}, {reuseaddr, true}]),
    unlink(Acceptor),
    [ok = curve_tun:close(S) || S <- [Client, Next]].
