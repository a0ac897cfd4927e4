%%% The application's environment: settings that are unusable or misspelt are named, and nothing is
%%% started with them.
-module(curve_tun_environment_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [what_cannot_be_used_is_named, no_value_is_told, what_can_be_used_is_used, a_wrong_line_at_the_start_is_named_in_the_log].

init_per_testcase(_, Config) -> curve_tun_test:stop(), Config.
end_per_testcase(_, _) -> curve_tun_test:stop().

%% Returns the result of starting the application with these settings.
started(Settings) ->
    curve_tun_test:stop(),
    ok = application:load(curve_tun),
    _ = [ok = application:set_env(curve_tun, Key, Value) || {Key, Value} <- Settings],
    application:start(curve_tun).

what_cannot_be_used_is_named(_) ->
    [begin
         {error, {Reason, {curve_tun_app, start, _}}} = started(Settings),
         ?assertEqual({Settings, {bad_environment, Named}}, {Settings, Reason}),
         ?assertNotEqual(nomatch, string:find(curve_tun:format_error(Reason), key(Named))),
         undefined = whereis(curve_tun_sup)
     end || {Settings, Named} <-
         [{[{vault_fil, "vault"}], vault_fil}, {[{registry_fil, "peers"}], registry_fil}, {[{registry, curve_tun_simple_registry}], registry},
          {[{vault_file, 5}], vault_file}, {[{vault_file, ""}], vault_file}, {[{vault_agent, none}], vault_agent},
          {[{vault_pkcs11, [a]}], vault_pkcs11}, {[{vault_file, "v"}, {vault_passphrase_file, {}}], vault_passphrase_file},
          {[{registry_file, <<255>>}], registry_file},
          {[{vault_providers, [no_such]}], {vault_providers, no_such}},
          {[{vault_providers, [curve_tun_vault_nif, lists]}], {vault_providers, lists}},
          {[{vault_providers, curve_tun_vault_nif}], vault_providers},
          {[{registry_providers, [curve_tun_simple_registry, no_such]}], {registry_providers, no_such}},
          {[{registry_providers, [curve_tun_vault_nif, {1}]}], {registry_providers, {1}}},
          %% Belongs to a provider that is not used.
          {[{registry_dns, [{zone, "example.org"}]}], registry_dns},
          {[{vault_providers, [curve_tun_vault_dummy]}, {vault_file, "v"}], vault_file},
          {[{registry_providers, [curve_tun_test_registry]}, {registry_file, "r"}], registry_file},
          {[{event_handler, no_such}], event_handler}, {[{event_handler, {lists, 1}}], event_handler}]].

key({Key, _}) -> atom_to_list(Key);
key(Key) -> atom_to_list(Key).

%% A misspelt setting may contain a PIN.
no_value_is_told(_) ->
    Log = curve_tun_test:forward_log(all),
    Result = started([{vault_pkcs1, "pkcs11:object=k?pin-value=74185296"}]),
    ?assertMatch({error, {{bad_environment, vault_pkcs1}, _}}, Result),
    Logged = fun Logged() -> receive {log, Event} -> [Event | Logged()] after 0 -> [] end end,
    ok = logger:remove_handler(Log),
    ok = logger:set_primary_config(level, notice),
    Text = io_lib:format("~p ~p ~s", [Result, Logged(), curve_tun:format_error(element(1, element(2, Result)))]),
    ?assertEqual(nomatch, string:find(Text, "74185296")).

what_can_be_used_is_used(Config) ->
    Peers = filename:join(proplists:get_value(priv_dir, Config), "environment-peers"),
    ok = file:write_file(Peers, <<>>),
    [begin
         ?assertEqual({Settings, ok}, {Settings, started(Settings)}),
         {ok, _} = curve_tun:public_key()
     end || Settings <- [[], [{registry_file, Peers}], [{registry_file, unicode:characters_to_binary(Peers)}],
                         [{vault_providers, [curve_tun_test_vault, curve_tun_vault_nif]},
                          {registry_providers, [curve_tun_test_registry]}],
                         [{event_handler, {curve_tun_test_events, []}}]]].

a_wrong_line_at_the_start_is_named_in_the_log(Config) ->
    Peers = filename:join(proplists:get_value(priv_dir, Config), "environment-wrong"),
    ok = file:write_file(Peers, <<"# peers\n\n10.0.0.1 no-key\n">>),
    Log = curve_tun_test:forward_log(error),
    {error, {{shutdown, {failed_to_start_child, curve_tun_simple_registry, bad_registry_file}}, _}} =
        started([{registry_file, Peers}]),
    receive
        {log, #{level := error, msg := {Format, Arguments}, meta := #{domain := [curve_tun], reason := bad_registry_file}}} ->
            Line = lists:flatten(io_lib:format(Format, Arguments)),
            ?assertNotEqual(nomatch, string:find(Line, Peers ++ ": line 3, column 10: ")),
            ?assertEqual(nomatch, string:find(Line, "no-key"))
    after 10000 -> ct:fail(nothing_is_logged)
    end,
    %% One that is missing.
    ok = file:delete(Peers),
    {error, _} = started([{registry_file, Peers}]),
    receive {log, #{msg := {Format2, Arguments2}, meta := #{domain := [curve_tun], reason := enoent}}} ->
        ?assertNotEqual(nomatch, string:find(io_lib:format(Format2, Arguments2), "there is no such file"))
    after 10000 -> ct:fail(nothing_is_logged)
    end,
    ok = logger:remove_handler(Log),
    ok = logger:set_primary_config(level, notice),
    %% While it runs, an invalid line changes nothing: curve_tun_registry_SUITE.
    ok = file:write_file(Peers, <<>>),
    ok = started([{registry_file, Peers}]).
