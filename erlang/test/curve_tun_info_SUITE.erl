%%% What an operator sees of connections, and the texts of reasons.
-module(curve_tun_info_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, listen/0, raw_connect/1, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [both_ends_of_a_connection, one_in_its_handshake_has_no_key, no_connection_is_woken, the_table,
     without_the_application_there_is_none, recv_as_gen_tcp_has_it, the_whole_table_of_errors,
     every_reason_in_the_code_has_words, reasons_with_something_in_them, processes_have_labels].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().

init_per_testcase(_, Config) ->
    curve_tun_test:flush(),
    until(fun() -> element(3, curve_tun_test:count()) =:= 0 end),
    Config.

end_per_testcase(_, _) -> ok.

own_key() ->
    {ok, Key} = curve_tun:public_key(),
    curve_tun:public_key_to_text(Key).

both_ends_of_a_connection(_) ->
    [] = curve_tun:connections(),
    Before = calendar:universal_time(),
    {Client, Server} = Pair = pair(),
    ok = curve_tun:send(Client, <<"hello">>),
    <<"hello">> = curve_tun:recv(Server),
    [{ok, ServerAt}, {ok, ClientAt}] = [curve_tun:peername(S) || S <- [Client, Server]],
    [AtClient, AtServer] = lists:sort(fun(#{role := A}, #{role := B}) -> A =< B end, curve_tun:connections()),
    Key = own_key(),
    ?assertMatch(#{role := client, peer := ServerAt, key := Key}, AtClient),
    ?assertMatch(#{role := server, peer := ClientAt, key := Key}, AtServer),
    [?assertEqual([bytes_received, bytes_sent, key, peer, role, since], lists:sort(maps:keys(C))) || C <- [AtClient, AtServer]],
    #{bytes_sent := Sent, bytes_received := Received, since := Since} = AtClient,
    ?assertMatch(#{bytes_sent := Received, bytes_received := Sent}, AtServer),
    ?assert(Sent > 0 andalso Received > 0),
    %% The clocks of the two may differ by a moment.
    Seconds = fun calendar:datetime_to_gregorian_seconds/1,
    ?assert(Seconds(Since) >= Seconds(Before) - 1 andalso Seconds(Since) =< Seconds(calendar:universal_time()) + 1),
    curve_tun_test:stop_pair(Pair),
    until(fun() -> curve_tun:connections() =:= [] end).

one_in_its_handshake_has_no_key(_) ->
    {Listener, Port} = listen(),
    Tcp = raw_connect(Port),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    [#{key := none, role := server, bytes_sent := 0, bytes_received := 0}] = curve_tun:connections(),
    ok = gen_tcp:close(Tcp),
    ok = curve_tun:close(Socket),
    ok = curve_tun:close(Listener).

no_connection_is_woken(_) ->
    {{_, Pid, _, _}, _} = Pair = pair(),
    until(fun() -> process_info(Pid, current_function) =:= {current_function, {erlang, hibernate, 3}} end),
    ok = sys:suspend(Pid),
    [_, _] = curve_tun:connections(),
    ok = sys:resume(Pid),
    curve_tun_test:stop_pair(Pair).

the_table(_) ->
    {ok, Empty} = printed(),
    ?assertEqual("Role  Peer  Sent  Received  Since (UTC)  Key\n", Empty),
    {Client, _} = Pair = pair(),
    {ok, {_, Port}} = curve_tun:peername(Client),
    {ok, Text} = printed(),
    [Head, AClient, AServer, ""] = string:split(Text, "\n", all),
    ?assertMatch({match, _}, re:run(Head, "^Role +Peer +Sent +Received +Since \\(UTC\\) +Key$")),
    [_, _] = [{match, _} = re:run(Line, Pattern) || {Line, Pattern} <-
        lists:zip(lists:sort([AClient, AServer]),
                  ["^client +127\\.0\\.0\\.1:" ++ integer_to_list(Port) ++ " +[0-9]+ +[0-9]+ +[0-9-]{10} [0-9:]{8} +" ++ key_pattern(),
                   "^server +127\\.0\\.0\\.1:[0-9]+ +[0-9]+ +[0-9]+ +[0-9-]{10} [0-9:]{8} +" ++ key_pattern()])],
    curve_tun_test:stop_pair(Pair),
    ?assertEqual("[::1]:7", curve_tun_log:peer_text({{0, 0, 0, 0, 0, 0, 0, 1}, 7})).

key_pattern() ->
    re:replace(own_key(), "[+]", "\\\\+", [global, {return, list}]) ++ "$".

%% Returns the output of i/0, from a process whose output is redirected here.
printed() ->
    Test = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
                     group_leader(Test, self()),
                     ok = curve_tun:i()
                 end),
    printed(Pid, Ref, []).

printed(Pid, Ref, Acc) ->
    receive
        {io_request, From, As, {put_chars, Encoding, Chars}} ->
            From ! {io_reply, As, ok},
            printed(Pid, Ref, [Acc | unicode:characters_to_list(Chars, Encoding)]);
        {'DOWN', Ref, process, Pid, normal} ->
            {ok, lists:flatten(Acc)}
    end.

without_the_application_there_is_none(_) ->
    curve_tun_test:stop(),
    [] = curve_tun:connections(),
    ok = curve_tun_test:start().

recv_as_gen_tcp_has_it(_) ->
    {Client, Server} = pair(),
    ok = curve_tun:send_many(Client, [<<"1">>, <<>>, <<"3">>]),
    [{error, {bad_length, Length}} = curve_tun:recv(Server, Length, 1000) || Length <- [1, -1, 65503, 1 bsl 70]],
    [{error, badarg} = curve_tun:recv(Server, Length, Time) || {Length, Time} <- [{zero, 1}, {1.0, 1}, {0, -1}, {0, soon}]],
    {ok, <<"1">>} = curve_tun:recv(Server, 0, 1000),
    {ok, <<>>} = curve_tun:recv(Server, 0, infinity),
    <<"3">> = curve_tun:recv(Server),
    {error, timeout} = curve_tun:recv(Server, 0, 0),
    ok = curve_tun:setopts(Server, [{active, once}]),
    {error, einval} = curve_tun:recv(Server, 0, 0),
    ok = curve_tun:setopts(Server, [{active, false}]),
    ok = curve_tun:close(Client),
    {error, closed} = curve_tun:recv(Server, 0, infinity),
    {error, closed} = curve_tun:recv(Server, 0, infinity).

has_words(Reason) ->
    Text = curve_tun:format_error(Reason),
    ?assert(io_lib:printable_unicode_list(Text), {Reason, Text}),
    ?assert(length(Text) > 10, {Reason, Text}),
    ?assertEqual({Reason, nomatch}, {Reason, string:find(Text, "unknown reason")}),
    ?assertEqual(Text, curve_tun:format_error({error, Reason})),
    Text.

%% The sentences are those of the crate's table, except where Erlang means something else.
the_whole_table_of_errors(_) ->
    Reasons = lists:usort(curve_tun_nif:error_reasons()),
    ?assert(length(Reasons) > 40),
    Others = [Reason || Reason <- Reasons, has_words(Reason) =/= unicode:characters_to_list(curve_tun_nif:error_message(Reason))],
    ?assertEqual([badarg, enotsup], Others),
    %% Of the errors with the same atom, the one that Erlang can meet.
    ?assertEqual("the disk is full", curve_tun:format_error(enospc)),
    none = curve_tun_nif:error_message(no_such_reason),
    ?assertEqual("unknown reason: no_such_reason", curve_tun:format_error(no_such_reason)),
    ?assertEqual("unknown reason: {1,2}", curve_tun:format_error({1, 2})).

%% Checks every `{error, Atom}' in the code of the application, and those that the edoc lists.
every_reason_in_the_code_has_words(_) ->
    {ok, Modules} = application:get_key(curve_tun, modules),
    Found = lists:usort(lists:append([in_code(Module) || Module <- Modules])),
    ?assert(length(Found) > 15),
    %% Reasons passed between modules, which no function for programs returns.
    Inner = [failed, ignore, error, bad_name, ok, true, false],
    [has_words(Reason) || Reason <- (Found -- Inner) ++ [econnreset, etimedout, send_timeout, crashed, internal, bad_packet,
                                                         counter_exhausted, emfile, econnrefused, eaddrinuse, enotconn]].

in_code(Module) ->
    {_, Beam, _} = code:get_object_code(Module),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(Beam, [abstract_code]),
    in_form([Form || {function, _, _, _, _} = Form <- Forms]).

in_form({tuple, _, [{atom, _, error}, {atom, _, Reason}]}) -> [Reason];
in_form(Form) when is_tuple(Form) -> in_form(tuple_to_list(Form));
in_form([Form | Forms]) -> in_form(Form) ++ in_form(Forms);
in_form(_) -> [].

reasons_with_something_in_them(_) ->
    {ok, Key} = curve_tun:public_key(),
    Text = binary_to_list(own_key()),
    [begin
         Words = has_words(Reason),
         [?assertNotEqual({Reason, nomatch}, {Reason, string:find(Words, Part)}) || Part <- Parts]
     end || {Reason, Parts} <-
            [{{bad_option, {key, 5}}, ["{key,5}"]}, {{missing_option, key}, ["key"]}, {{bad_length, 5}, ["5"]},
             {{not_started, curve_tun}, ["curve_tun"]}, {{no_provider, vault}, ["vault"]}, {{no_provider, registry}, ["registry"]},
             {{key_changed, Key, Key}, [Text]}, {{key_denied, Key}, [Text]}, {{unknown_peer, Key}, [Text]},
             {{bad_environment, vault_fil}, ["vault_fil"]},
             {{{bad_environment, vault_fil}, {curve_tun_app, start, [normal, []]}}, ["vault_fil"]},
             {{{shutdown, {failed_to_start_child, curve_tun_simple_registry, bad_registry_file}}, {curve_tun_app, start, []}},
              ["curve_tun_simple_registry", "a line of the registry's file is wrong"]},
             {{3, 10, <<"what">>}, ["line 3, column 10: what"]}, {{bad_environment, {vault_providers, no_such}}, ["no_such"]}]],
    %% Whatever it is given, it returns text.
    [?assert(is_list(curve_tun:format_error(What))) || What <- [1, "text", <<"text">>, {}, #{}, [a | b], self(), {error, {error, x}},
                                                                {bad_option, [a | b]}, {key_changed, 1, 2}, '']].

%% Where OTP has labels, from 27 on, a process has one that says what it is; before, it has none.
processes_have_labels(_) ->
    {Client, _} = Pair = pair(),
    {_, Pid, _, _} = Client,
    {ok, Peer} = curve_tun:peername(Client),
    {dictionary, Dictionary} = process_info(Pid, dictionary),
    Expected = case erlang:function_exported(proc_lib, set_label, 1) of
                   true -> {curve_tun_connection, client, Peer};
                   false -> none
               end,
    ?assertEqual(Expected, proplists:get_value('$process_label', Dictionary, none)),
    curve_tun_test:stop_pair(Pair).
