%%% Events: a program's handler is told of each handshake and each connection, once, and cannot harm
%%% them.
-module(curve_tun_events_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/1, connect/1, connect/2, raw_connect/1, until/1]).

-compile([export_all, nowarn_export_all]).

-define(HERE, {127, 0, 0, 1}).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [a_connection_from_beginning_to_end, bytes_are_those_of_the_transport, who_is_refused, who_is_evicted,
     each_end_has_its_reason, a_connection_that_is_killed, a_connection_that_is_killed_at_once, a_handler_that_crashes_harms_nobody,
     the_environment_names_one_for_all, the_owner_ends, nobody_is_told_twice,
     who_receives_does_not_wait_for_a_handler, bytes_that_come_early_count_once].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().

init_per_testcase(_, Config) ->
    curve_tun_test:flush(),
    ok = curve_tun_test_registry:behave(well),
    Config.

end_per_testcase(_, _) ->
    application:unset_env(curve_tun, event_handler).

handler() -> handler(#{}).

handler(More) -> {event_handler, {curve_tun_test_events, More#{to => self()}}}.

next() ->
    receive {event, Event, Measurements, Metadata} -> {Event, Measurements, Metadata}
    after 10000 -> ct:fail(no_event)
    end.

own_key() ->
    {ok, Key} = curve_tun:public_key(),
    curve_tun:public_key_to_text(Key).

%% Returns a client, with or without a handler, and the server's end.
pair(ClientOptions, ServerOptions) -> curve_tun_test:pair(ClientOptions, ServerOptions).

a_connection_from_beginning_to_end(_) ->
    Key = own_key(),
    {Client, Server} = pair([handler()], [handler(), {listener, "front"}]),
    {ok, {_, ClientPort} = ClientAt} = curve_tun:sockname(Client),
    {ok, ServerAt} = curve_tun:peername(Client),
    Begun = lists:sort([next(), next()]),
    [{accepted, #{duration_ms := A}, Accepted}, {connected, #{duration_ms := C}, Connected}] = Begun,
    ?assert(is_integer(A) andalso A >= 0 andalso is_integer(C) andalso C >= 0),
    ?assertEqual(#{role => server, peer => {?HERE, ClientPort}, key => Key, listener => <<"front">>}, Accepted),
    ?assertEqual(#{role => client, peer => ServerAt, key => Key, listener => <<>>}, Connected),
    ok = curve_tun:send(Client, <<"hello">>),
    <<"hello">> = curve_tun:recv(Server),
    ok = curve_tun:close(Client),
    {error, closed} = curve_tun:recv(Server),
    Ended = [next(), next()],
    ?assertEqual([{closed, client, ServerAt}, {closed, server, ClientAt}],
                 lists:sort([{maps:get(reason, M), maps:get(role, M), maps:get(peer, M)} || {closed, _, M} <- Ended])),
    curve_tun_test:no_message().

%% The bytes sent by one end are those received by the other, including the handshake.
bytes_are_those_of_the_transport(_) ->
    {Client, Server} = pair([handler()], [handler()]),
    _ = [next(), next()],
    ok = curve_tun:send_many(Client, [binary:copy(<<1>>, Size) || Size <- [0, 1, 1000, 65503]]),
    ok = curve_tun:send(Server, <<"back">>),
    [_ = curve_tun:recv(Server) || _ <- [1, 2, 3, 4]],
    <<"back">> = curve_tun:recv(Client),
    {ok, [{recv_oct, Received}, {send_oct, Sent}]} = inet:getstat(curve_tun_test:tcp_socket(Client), [recv_oct, send_oct]),
    ok = curve_tun:close(Client),
    {error, closed} = curve_tun:recv(Server),
    [begin
         {closed, #{bytes_sent := S, bytes_received := R, duration_ms := _}, #{role := Role}} = Event,
         ?assertEqual({Role, if Role =:= client -> {Sent, Received}; true -> {Received, Sent} end}, {Role, {S, R}})
     end || Event <- [next(), next()]].

accepting(Options) ->
    {Listener, Port} = listen([handler() | Options]),
    _ = spawn_link(fun Accept() ->
                       case curve_tun:accept(Listener, infinity) of
                           {ok, _} -> Accept();
                           {error, _} -> ok
                       end
                   end),
    {Listener, Port}.

who_is_refused(_) ->
    Key = own_key(),
    {Listener, Port} = accepting([{registry, curve_tun_test_registry}, {listener, <<"door">>}]),
    ok = curve_tun_test_registry:behave({say, false}),
    _ = connect(Port),
    ?assertMatch({refused, #{duration_ms := _}, #{role := server, peer := {?HERE, _}, key := Key, reason := unknown_peer,
                                                  listener := <<"door">>}}, next()),
    %% A key that it has not proven is not reported.
    Tcp = raw_connect(Port),
    ok = gen_tcp:send(Tcp, <<"GET / HTTP/1.1\r\n\r\n">>),
    ?assertMatch({refused, _, #{key := none, reason := bad_packet}}, next()),
    ok = gen_tcp:close(Tcp),
    %% By a handshake of the program itself, whose owner ends.
    ok = curve_tun:close(Listener),
    {Listener2, Port2} = listen([handler()]),
    Owner = spawn(fun() ->
                      {ok, Socket} = curve_tun:transport_accept(Listener2, infinity),
                      curve_tun:handshake(Socket, infinity)
                  end),
    Tcp2 = raw_connect(Port2),
    until(fun() -> lists:any(fun(#{key := K}) -> K =:= none end, curve_tun:connections()) end),
    exit(Owner, kill),
    ?assertMatch({refused, _, #{reason := closed, key := none}}, next()),
    ok = gen_tcp:close(Tcp2),
    ok = curve_tun:close(Listener2),
    curve_tun_test:no_message().

who_is_evicted(_) ->
    {Listener, Port} = accepting([{handshakes_max, 1}]),
    Silent = raw_connect(Port),
    until(fun() -> curve_tun:connections() =/= [] end),
    {ok, Client} = connect(Port),
    ?assertMatch({evicted, _, #{reason := too_many_handshakes, key := none, peer := {?HERE, _}}}, next()),
    ?assertMatch({accepted, _, _}, next()),
    gen_tcp:close(Silent),
    ok = curve_tun:close(Client),
    ?assertMatch({closed, _, #{reason := closed}}, next()),
    ok = curve_tun:close(Listener).

each_end_has_its_reason(_) ->
    [begin
         {Listener, Port} = accepting([]),
         {Tcp, _, _} = curve_tun_test:raw_client(Port),
         {accepted, _, _} = next(),
         case Reason of
             econnreset -> ok = inet:setopts(Tcp, [{linger, {true, 0}}]), ok = gen_tcp:close(Tcp);
             closed -> ok = gen_tcp:close(Tcp);
             bad_packet -> ok = gen_tcp:send(Tcp, curve_tun_test:frame(<<0:800>>))
         end,
         ?assertMatch({closed, #{bytes_sent := S, bytes_received := R}, #{reason := Reason}} when S > 0 andalso R > 0, next()),
         gen_tcp:close(Tcp),
         ok = curve_tun:close(Listener)
     end || Reason <- [econnreset, closed, bad_packet]],
    curve_tun_test:no_message().

%% Its process reports nothing then, and how much it had received is unknown.
a_connection_that_is_killed(_) ->
    {{curve_tun_socket, Pid, _, _} = Client, Server} = pair([handler()], []),
    {connected, _, _} = next(),
    exit(Pid, kill),
    {closed, Measured, #{reason := crashed, role := client}} = next(),
    ?assertEqual([bytes_sent, duration_ms], lists:sort(maps:keys(Measured))),
    {Listener, Port} = listen([handler()]),
    Tcp = raw_connect(Port),
    {ok, {curve_tun_socket, Begun, _, _}} = curve_tun:transport_accept(Listener),
    exit(Begun, kill),
    ?assertMatch({refused, _, #{reason := crashed, role := server}}, next()),
    gen_tcp:close(Tcp),
    [ok = curve_tun:close(S) || S <- [Client, Server, Listener]].

%% Nobody has its socket before it is being monitored.
a_connection_that_is_killed_at_once(_) ->
    Self = self(),
    {Listener, Port} = listen([handler()]),
    ok = sys:suspend(curve_tun_monitor),
    _ = spawn_link(fun() ->
                       {ok, {curve_tun_socket, Begun, _, _}} = curve_tun:transport_accept(Listener),
                       exit(Begun, kill),
                       Self ! killed
                   end),
    Tcp = raw_connect(Port),
    %% If it were accepted earlier, it would be killed by then.
    receive killed -> ok after 300 -> ok end,
    ok = sys:resume(curve_tun_monitor),
    ?assertMatch({refused, _, #{reason := crashed, role := server}}, next()),
    gen_tcp:close(Tcp),
    ok = curve_tun:close(Listener).

a_handler_that_crashes_harms_nobody(_) ->
    Log = curve_tun_test:forward_log(warning),
    [begin
         {Client, Server} = pair([handler(#{then => Then})], [handler(#{then => Then})]),
         ok = curve_tun:send(Client, <<"hello">>),
         <<"hello">> = curve_tun:recv(Server),
         ok = curve_tun:close(Client),
         {error, closed} = curve_tun:recv(Server),
         ?assertEqual([accepted, closed, closed, connected], lists:sort([element(1, next()) || _ <- [1, 2, 3, 4]]))
     end || Then <- [fun() -> error({secret, <<"hidden">>}) end, fun() -> exit(kill) end, fun() -> throw(ball) end,
                     fun() -> self() ! {unknown, message} end, fun() -> put(key, value) end]],
    receive
        {log, #{level := warning, msg := {Format, Arguments}, meta := #{domain := [curve_tun], reason := secret}}} ->
            ?assertEqual(nomatch, string:find(io_lib:format(Format, Arguments), "hidden"))
    after 10000 -> ct:fail(nothing_is_logged)
    end,
    %% A few lines a second, however many events there are.
    Lines = fun Lines(N) -> receive {log, _} -> Lines(N + 1) after 0 -> N end end,
    ?assert(Lines(0) < 20),
    ok = logger:remove_handler(Log),
    ok = logger:set_primary_config(level, notice).

%% An option takes precedence over it.
the_environment_names_one_for_all(_) ->
    ok = application:set_env(curve_tun, event_handler, {curve_tun_test_events, #{to => self()}}),
    Other = spawn_link(fun Loop() -> receive _ -> Loop() end end),
    {Client, Server} = pair([{event_handler, {curve_tun_test_events, #{to => Other}}}], []),
    ?assertMatch({accepted, _, #{role := server}}, next()),
    curve_tun_test:stop_pair({Client, Server}),
    ?assertMatch({closed, _, #{role := server}}, next()),
    curve_tun_test:no_message().

the_owner_ends(_) ->
    Handler = handler(),
    Owner = spawn(fun() -> {Client, _} = pair([Handler], []), receive never -> Client end end),
    {connected, _, _} = next(),
    exit(Owner, kill),
    ?assertMatch({closed, _, #{reason := closed, role := client}}, next()),
    %% And the application.
    {_, _} = pair([Handler], [Handler]),
    _ = [next(), next()],
    curve_tun_test:stop(),
    [?assertMatch({closed, _, #{reason := closed}}, next()) || _ <- [1, 2]],
    ok = curve_tun_test:start(),
    curve_tun_test:no_message().

%% A connection that is killed while it delivers remaining data has already reported its end.
nobody_is_told_twice(_) ->
    {{curve_tun_socket, Pid, _, _} = Client, Server} =
        pair([handler(), {sndbuf, 4096}], [{receive_high_water, 1}, {recbuf, 4096}]),
    {connected, _, _} = next(),
    ok = curve_tun:send_many(Client, [binary:copy(<<1>>, 60000) || _ <- lists:seq(1, 20)]),
    ok = curve_tun:close(Client),
    {closed, #{bytes_sent := Sent}, #{reason := closed}} = next(),
    ?assert(Sent > 20 * 60000),
    Ref = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Ref, process, Pid, _} -> ok end,
    %% The monitor has processed it by now.
    _ = curve_tun:connections(),
    receive {event, _, _, _} = Again -> ct:fail(Again) after 50 -> ok end,
    ok = curve_tun:close(Server).

%% A connection closes its socket, and answers waiting callers, before its handler is called.
who_receives_does_not_wait_for_a_handler(_) ->
    Self = self(),
    Handler = handler(#{then => fun() -> Self ! {handler, self()}, receive go_on -> ok end end}),
    {Listener, Port} = listen([Handler]),
    Receiver = spawn_link(fun() ->
                       {ok, Server} = curve_tun:accept(Listener, infinity),
                       Self ! accepted,
                       Self ! {received, curve_tun:recv(Server)}
                   end),
    {ok, Client} = connect(Port),
    {accepted, _, _} = next(),
    Pid = receive {handler, Told} -> Told end,
    Pid ! go_on,
    receive accepted -> ok end,
    %% It has made its call by then.
    until(fun() -> process_info(Receiver, status) =:= {status, waiting} end),
    ok = curve_tun:close(Client),
    {closed, _, _} = next(),
    receive {handler, Pid} -> ok end,
    ?assertEqual({error, closed}, receive {received, Got} -> Got after 10000 -> still_waits end),
    Pid ! go_on,
    ok = curve_tun:close(Listener).

%% Data that a client sends at once arrives at the connection before the registry has decided.
bytes_that_come_early_count_once(_) ->
    Self = self(),
    ok = curve_tun_test_registry:behave({ask, Self}),
    {Listener, Port} = listen([handler(), {registry, curve_tun_test_registry}]),
    _ = spawn_link(fun() ->
                       {ok, Server} = curve_tun:accept(Listener, infinity),
                       Self ! {received, curve_tun:recv(Server), curve_tun:recv(Server)}
                   end),
    {ok, {curve_tun_socket, Ours, _, _} = Client} = connect(Port),
    Registry = receive {verify, Asked} -> Asked end,
    [Pid] = curve_tun_connection_sup:children() -- [Ours],
    ok = sys:suspend(Pid),
    Registry ! {verdict, true},
    until(fun() -> process_info(Pid, message_queue_len) =/= {message_queue_len, 0} end),
    Message = binary:copy(<<1>>, 1000),
    ok = curve_tun:send(Client, Message),
    {ok, [{send_oct, Sent}]} = inet:getstat(curve_tun_test:tcp_socket(Client), [send_oct]),
    until(fun() -> [N || #{role := server, bytes_received := N} <- curve_tun:connections()] =:= [Sent] end),
    ok = sys:resume(Pid),
    {accepted, _, _} = next(),
    ok = curve_tun:close(Client),
    ?assertMatch({closed, #{bytes_received := Sent}, _}, next()),
    ?assertEqual({received, Message, {error, closed}}, receive {received, _, _} = Got -> Got end),
    ok = curve_tun:close(Listener).
