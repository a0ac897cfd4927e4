%%% What a server's log says of the clients that it let in and turned away.
-module(curve_tun_observed_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/1, connect/1, connect/2, raw_connect/1, raw_closed/1]).

-compile([export_all, nowarn_export_all]).

-define(HERE, {127, 0, 0, 1}).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [who_is_let_in, a_vault_that_fails_is_told_to_the_server_alone, an_unknown_peer_is_told_with_its_key,
     a_bad_packet, a_silent_client, a_client_that_leaves_is_one_line_at_debug_level, who_gives_way,
     a_handshake_of_the_program_s_own, a_flood_is_a_few_lines, a_node_as_it_comes_shows_them,
     peer_and_reason_are_metadata, every_line_has_a_domain].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().

init_per_testcase(_, Config) ->
    curve_tun_test:flush(),
    ok = curve_tun_test_registry:behave(well),
    _ = curve_tun_test_vault:well(),
    [{log, curve_tun_test:forward_log(debug)} | Config].

end_per_testcase(_, Config) ->
    _ = logger:remove_handler(proplists:get_value(log, Config)),
    ok = logger:set_primary_config(level, notice),
    curve_tun_test_vault:well().

%% Accepts until the listener is closed.
accepting(Options) ->
    {Listener, Port} = listen(Options),
    Accept = fun Accept() ->
                 case curve_tun:accept(Listener) of
                     {ok, _} -> Accept();
                     {error, _} -> ok
                 end
             end,
    _ = spawn_link(Accept),
    {Listener, Port}.

%% Returns the next event about a client, with its line, once the rate allows it.
next() ->
    receive
        {log, #{msg := {Format, Arguments}, meta := #{domain := [curve_tun], outcome := Outcome} = Meta, level := Level}} ->
            Line = lists:flatten(io_lib:format(Format, Arguments)),
            ?assertEqual(nomatch, string:find(Line, "\n")),
            {Level, Outcome, maps:get(reason, Meta), maps:get(address, Meta), maps:get(key, Meta), Line}
    after 10000 -> ct:fail(nothing_is_logged)
    end.

%% Returns a client whose handshake has begun: one that leaves earlier has none.
taken(Port) ->
    Connections = fun() -> element(3, curve_tun_test:count()) end,
    ok = curve_tun_test:until(fun() -> Connections() =:= 0 end),
    Client = raw_connect(Port),
    ok = curve_tun_test:until(fun() -> Connections() =:= 1 end),
    Client.

own_key() ->
    {ok, Key} = curve_tun:public_key(),
    curve_tun:public_key_to_text(Key).

who_is_let_in(_) ->
    {Listener, Port} = accepting([]),
    {ok, Socket} = connect(Port),
    Key = own_key(),
    ?assertMatch({debug, accepted, connected, ?HERE, Key, _}, next()),
    ok = curve_tun:close(Socket),
    ok = curve_tun:close(Listener).

a_vault_that_fails_is_told_to_the_server_alone(_) ->
    {Listener, Port} = accepting([{vault, curve_tun_test_vault}]),
    _ = [begin
             curve_tun_test_vault:behave(box_open, How),
             ?assertEqual({error, wrong_server_key}, connect(Port)),
             ?assertMatch({notice, refused, vault_failed, ?HERE, <<"-">>, "curve_tun refused 127.0.0.1 -: vault_failed" ++ _},
                          next()),
             curve_tun_test_vault:well()
         end || How <- [crash, {say, error}]],
    ok = curve_tun:close(Listener).

an_unknown_peer_is_told_with_its_key(_) ->
    {Listener, Port} = accepting([{registry, curve_tun_test_registry}]),
    Key = own_key(),
    _ = [begin
             ok = curve_tun_test_registry:behave(How),
             _ = connect(Port),
             ?assertMatch({notice, refused, Reason, ?HERE, Key, _}, next())
         end || {How, Reason} <- [{{say, false}, unknown_peer}, {crash, registry_failed}]],
    ok = curve_tun:close(Listener).

a_bad_packet(_) ->
    {Listener, Port} = accepting([]),
    Browser = raw_connect(Port),
    ok = gen_tcp:send(Browser, <<"GET / HTTP/1.1\r\n\r\n">>),
    ?assertMatch({notice, refused, bad_packet, ?HERE, <<"-">>, _}, next()),
    gen_tcp:close(Browser),
    ok = curve_tun:close(Listener).

a_silent_client(_) ->
    {Listener, Port} = accepting([{handshake_timeout, 1}]),
    Silent = raw_connect(Port),
    ?assertMatch({notice, refused, timeout, ?HERE, <<"-">>, _}, next()),
    gen_tcp:close(Silent),
    ok = curve_tun:close(Listener).

a_client_that_leaves_is_one_line_at_debug_level(_) ->
    {Listener, Port} = accepting([]),
    Client = taken(Port),
    ok = gen_tcp:close(Client),
    ?assertMatch({debug, refused, closed, ?HERE, <<"-">>, _}, next()),
    ok = curve_tun:close(Listener).

who_gives_way(_) ->
    {Listener, Port} = accepting([{handshakes_max, 1}]),
    Silent = taken(Port),
    {ok, Socket} = connect(Port),
    ?assertMatch({notice, evicted, too_many_handshakes, ?HERE, <<"-">>, "curve_tun evicted 127.0.0.1 -: " ++ _}, next()),
    ?assertMatch({debug, accepted, connected, ?HERE, _, _}, next()),
    gen_tcp:close(Silent),
    ok = curve_tun:close(Socket),
    ok = curve_tun:close(Listener).

%% By `transport_accept' and `handshake'.
a_handshake_of_the_program_s_own(_) ->
    {Listener, Port} = listen([]),
    Raw = raw_connect(Port),
    {ok, Server} = curve_tun:transport_accept(Listener, 10000),
    ok = gen_tcp:send(Raw, <<"GET / HTTP/1.1\r\n\r\n">>),
    ?assertEqual({error, bad_packet}, curve_tun:handshake(Server, 10000)),
    ?assertMatch({notice, refused, bad_packet, ?HERE, <<"-">>, _}, next()),
    gen_tcp:close(Raw),
    ok = curve_tun:close(Listener).

%% However many there are, ten lines a second are logged; a later line has the number of those left
%% out.
a_flood_is_a_few_lines(_) ->
    {Listener, Port} = accepting([]),
    Start = erlang:monotonic_time(second),
    _ = [stranger(Port) || _ <- lists:seq(1, 100)],
    {Said, LeftOut} = said({0, 0}),
    Seconds = erlang:monotonic_time(second) - Start + 1,
    %% Earlier tests may have used some of the lines of the first second.
    ?assert(Said >= 1 andalso Said =< 10 * Seconds),
    ok = accounted_for(Port, 100, {Said, LeftOut}),
    ok = curve_tun:close(Listener).

%% A client that sends garbage, which the server logs before it closes.
stranger(Port) ->
    Raw = raw_connect(Port),
    ok = gen_tcp:send(Raw, <<0:1600>>),
    _ = raw_closed(Raw),
    ok = gen_tcp:close(Raw).

accounted_for(_Port, Sent, {Said, LeftOut}) when Said + LeftOut =:= Sent -> ok;
accounted_for(Port, Sent, Before) -> stranger(Port), accounted_for(Port, Sent + 1, said(Before)).

%% Counts the lines, and those left out before them, including those that have come since.
said({Said, LeftOut}) ->
    receive
        {log, #{level := notice, msg := {Format, Arguments}, meta := #{left_out := More}}} ->
            Owned = string:find(io_lib:format(Format, Arguments), integer_to_list(More) ++ " more") =/= nomatch,
            ?assertEqual(More > 0, Owned),
            said({Said + 1, LeftOut + More})
    after 0 -> {Said, LeftOut}
    end.

%% OTP's default handler, without configuration, drops events with a domain other than OTP's.
a_node_as_it_comes_shows_them(_) ->
    Ebin = filename:dirname(code:which(curve_tun)),
    Program = "{ok, _} = application:ensure_all_started(curve_tun), {ok, Key} = curve_tun:public_key(), "
              "{ok, Listener} = curve_tun:listen(0, [{ip, {127,0,0,1}}]), "
              "{ok, {_, Port}} = curve_tun:sockname(Listener), "
              "spawn(fun() -> curve_tun:accept(Listener) end), "
              "{ok, Client} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}]), "
              "{error, _} = curve_tun:recv(Client), ok = curve_tun:close(Listener), "
              "ok = logger_std_h:filesync(default), ok = application:stop(curve_tun), "
              "[] = [own || {curve_tun, _} <- maps:get(filters, element(2, logger:get_handler_config(default)))], "
              "ok = logger_std_h:filesync(default), halt(0).",
    Said = os:cmd("erl -noinput -pa " ++ Ebin ++ " -eval '" ++ Program ++ "' 2>&1"),
    ?assertMatch({match, _}, re:run(Said, "curve_tun refused 127\\.0\\.0\\.1 [A-Za-z0-9+/=]{44}: unknown_peer"), Said).

%% Of handshakes, and of connections that end abnormally.
peer_and_reason_are_metadata(_) ->
    {Listener, Port} = listen([]),
    Test = self(),
    Accepting = spawn_link(fun() -> Test ! {self(), curve_tun:accept(Listener, infinity)}, receive never -> ok end end),
    {Tcp, _, _} = curve_tun_test:raw_client(Port),
    {ok, Peer} = inet:sockname(Tcp),
    receive {Accepting, {ok, _}} -> ok end,
    About = fun(Reason) -> receive {log, #{meta := #{domain := [curve_tun], reason := Reason} = Meta}} -> Meta
                           after 10000 -> ct:fail({nothing_is_logged, Reason})
                           end end,
    Key = own_key(),
    ?assertMatch(#{peer := Peer, address := ?HERE, key := Key, outcome := accepted}, About(connected)),
    ok = inet:setopts(Tcp, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Tcp),
    ?assertMatch(#{peer := Peer, role := server}, About(econnreset)),
    ok = curve_tun:close(Listener).

%% Each `?LOG_...' has metadata of its own.
every_line_has_a_domain(_) ->
    {ok, Modules} = application:get_key(curve_tun, modules),
    Calls = lists:append([logs(Module) || Module <- Modules]),
    ?assert(length(Calls) >= 8),
    %% Location, level, format, arguments, metadata.
    [?assertEqual({Module, 5}, {Module, length(Arguments)}) || {Module, Arguments} <- Calls].

logs(Module) ->
    {_, Beam, _} = code:get_object_code(Module),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(Beam, [abstract_code]),
    [{Module, Arguments} || Arguments <- logs_in(Forms)].

logs_in({call, _, {remote, _, _, {atom, _, apply}}, [{atom, _, logger}, {atom, _, macro_log}, Arguments]}) -> [listed(Arguments)];
logs_in(Form) when is_tuple(Form) -> logs_in(tuple_to_list(Form));
logs_in([Form | Forms]) -> logs_in(Form) ++ logs_in(Forms);
logs_in(_) -> [].

listed({cons, _, Head, Tail}) -> [Head | listed(Tail)];
listed({nil, _}) -> [].
