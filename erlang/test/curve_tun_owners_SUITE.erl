%%% Controllers: hand-over, and what happens when one dies.
-module(curve_tun_owners_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, pair/2, stop_pair/1, message/1, no_message/0, connect/1, listen/0, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [only_the_controller_hands_over, messages_go_over_in_order, the_new_controller_counts,
     a_dead_controller_closes_in_connected, a_dead_controller_closes_in_ready, a_dead_controller_closes_in_initiating,
     a_dead_controller_closes_in_accepting, a_controller_may_hand_over_to_a_dead_process,
     a_listener_ends_with_its_owner, a_listener_is_handed_over, a_crash_reaches_the_controller_and_nobody_else,
     anybody_may_send_and_receive].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

only_the_controller_hands_over(_) ->
    {Client, _} = Pair = pair(),
    Test = self(),
    spawn_link(fun() -> Test ! {said, curve_tun:controlling_process(Client, self())} end),
    receive {said, Said} -> {error, not_owner} = Said end,
    ok = curve_tun:controlling_process(Client, self()),
    stop_pair(Pair).

messages_go_over_in_order(_) ->
    {Client, Server} = Pair = pair([], [{active, true}]),
    Count = 2000,
    spawn_link(fun() -> [ok = curve_tun:send(Client, <<N:32>>) || N <- lists:seq(1, Count)] end),
    Test = self(),
    Second = spawn_link(fun() -> receive go -> ok end, Test ! {got, [message(Server) || _ <- lists:seq(1, Count)]} end),
    until(fun() -> element(2, process_info(self(), message_queue_len)) > 50 end),
    ok = curve_tun:controlling_process(Server, Second),
    Second ! go,
    receive {got, Got} -> ?assertEqual([<<N:32>> || N <- lists:seq(1, Count)], Got) end,
    no_message(),
    stop_pair(Pair).

the_new_controller_counts(_) ->
    {Client, Server} = pair(),
    Second = spawn(fun() -> receive stop -> ok end end),
    ok = curve_tun:controlling_process(Server, Second),
    {error, not_owner} = curve_tun:controlling_process(Server, self()),
    Second ! stop,
    {error, closed} = curve_tun:recv(Client),
    {error, closed} = curve_tun:recv(Server),
    ok = curve_tun:close(Client).

%% Makes a process own the result of `Make', and returns that; the process is killed, and everything
%% must be gone within a second.
killed(Make) ->
    Before = curve_tun_test:count(),
    Test = self(),
    {Owner, Ref} = spawn_monitor(fun() -> Test ! {made, Make()}, receive never -> ok end end),
    Made = receive {made, M} -> M after 5000 -> ct:fail(not_made) end,
    exit(Owner, kill),
    receive {'DOWN', Ref, process, _, killed} -> ok end,
    {Made, Before}.

a_dead_controller_closes_in_connected(_) ->
    {Listener, Port} = listen(),
    Before = curve_tun_test:count(),
    Test = self(),
    %% The client is another's, and lives on.
    Connecting = spawn_link(fun() -> {ok, C} = connect(Port), Test ! {client, C}, receive stop -> ok end end),
    {accepted, _} = killed(fun() -> {ok, _} = curve_tun:accept(Listener), accepted end),
    Client = receive {client, C} -> C end,
    {error, closed} = curve_tun:recv(Client),
    ok = curve_tun:close(Client),
    Connecting ! stop,
    curve_tun_test:settled(Before),
    ok = curve_tun:close(Listener).

a_dead_controller_closes_in_ready(_) ->
    {Listener, Port} = listen(),
    Tcp = curve_tun_test:raw_connect(Port),
    {_, Before} = killed(fun() -> {ok, S} = curve_tun:transport_accept(Listener), S end),
    <<>> = curve_tun_test:raw_closed(Tcp),
    gen_tcp:close(Tcp),
    curve_tun_test:settled(Before),
    ok = curve_tun:close(Listener).

a_dead_controller_closes_in_initiating(_) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Listen),
    Test = self(),
    {_, Before} = killed(fun() ->
                      Me = self(),
                      spawn_link(fun() -> {ok, T} = gen_tcp:accept(Listen), {ok, _} = gen_tcp:recv(T, 130), Me ! T,
                                          ok = gen_tcp:controlling_process(T, Test), Me ! T, receive never -> ok end end),
                      spawn_link(fun() -> connect(Port) end),
                      receive T -> Test ! {tcp, T} end
                  end),
    Tcp = receive {tcp, T} -> T end,
    <<>> = curve_tun_test:raw_closed(Tcp),
    gen_tcp:close(Tcp),
    curve_tun_test:settled(Before),
    gen_tcp:close(Listen).

a_dead_controller_closes_in_accepting(_) ->
    {Listener, Port} = listen(),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    {ok, Hello} = curve_tun_nif:begin_client(curve_tun_nif:connection_new(), Vault, Key),
    {_, Before} = killed(fun() ->
                      {ok, S} = curve_tun:transport_accept(Listener),
                      spawn_link(fun() -> curve_tun:handshake(S) end),
                      ok = gen_tcp:send(Tcp, Hello),
                      {ok, _} = gen_tcp:recv(Tcp, 170, 5000)
                  end),
    <<>> = curve_tun_test:raw_closed(Tcp),
    gen_tcp:close(Tcp),
    curve_tun_test:settled(Before),
    ok = curve_tun:close(Listener).

a_controller_may_hand_over_to_a_dead_process(_) ->
    {Client, Server} = pair(),
    Dead = spawn(fun() -> ok end),
    until(fun() -> not is_process_alive(Dead) end),
    ok = curve_tun:controlling_process(Server, Dead),
    {error, closed} = curve_tun:recv(Client),
    ok = curve_tun:close(Client).

a_listener_ends_with_its_owner(_) ->
    {{Listener, Port}, Before} = killed(fun() -> listen() end),
    until(fun() -> connect(Port) =:= {error, econnrefused} end),
    {error, closed} = curve_tun:accept(Listener),
    curve_tun_test:settled(Before).

a_listener_is_handed_over(_) ->
    {Listener, Port} = listen(),
    Test = self(),
    Second = spawn_link(fun() -> receive go -> Test ! {accepted, curve_tun:accept(Listener)} end, receive never -> ok end end),
    ok = curve_tun:controlling_process(Listener, Second),
    {error, not_owner} = curve_tun:controlling_process(Listener, self()),
    Second ! go,
    {ok, Client} = connect(Port),
    receive {accepted, {ok, _}} -> ok end,
    ok = curve_tun:close(Client),
    ok = curve_tun:close(Listener).

a_crash_reaches_the_controller_and_nobody_else(_) ->
    {{curve_tun_socket, Pid, _, _} = Client, Server} = pair([{active, true}], []),
    {Other, OtherServer} = OtherPair = pair(),
    exit(Pid, kill),
    {error, crashed} = message(Client),
    closed = message(Client),
    {error, closed} = curve_tun:recv(Server),
    {error, closed} = curve_tun:recv(Client),
    {error, closed} = curve_tun:send(Client, <<"x">>),
    ok = curve_tun:send(Other, <<"on">>),
    <<"on">> = curve_tun:recv(OtherServer),
    no_message(),
    ok = curve_tun:close(Server),
    stop_pair(OtherPair).

anybody_may_send_and_receive(_) ->
    {Client, Server} = Pair = pair(),
    Test = self(),
    spawn_link(fun() -> ok = curve_tun:send(Client, <<"from elsewhere">>) end),
    spawn_link(fun() -> Test ! {got, curve_tun:recv(Server)} end),
    receive {got, <<"from elsewhere">>} -> ok end,
    stop_pair(Pair).
