%%% Connecting by name, and trust on first use.
-module(curve_tun_known_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(PATIENCE, 30000).
-define(OTHER, <<9:256/little>>).
-define(THIRD, <<16:256/little>>).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [a_first_use_is_decided_and_remembered, a_changed_key_is_refused_before_anything_is_sent,
     a_key_is_remembered_once_it_is_proven, a_tunnel_outlives_a_key_that_cannot_be_remembered,
     a_function_decides, a_function_that_fails_refuses, a_function_that_hangs_refuses_in_time, a_denied_key_is_refused,
     nothing_is_trusted_while_the_file_is_unusable, a_key_that_another_program_remembered_first_wins,
     a_key_that_is_denied_meanwhile_is_refused,
     a_server_in_the_file_is_found_by_name, keys_by_name_are_trusted_like_others, a_registry_in_erlang_knows_servers,
     a_registry_in_erlang_that_fails, a_slow_registry_takes_no_longer_than_the_caller, options_that_would_check_nothing].

init_per_suite(Config) -> Config.
end_per_suite(_) -> ok.

init_per_testcase(Case, Config) ->
    curve_tun_test:flush(),
    Folder = filename:join(proplists:get_value(priv_dir, Config), Case),
    ok = file:make_dir(Folder),
    Peers = filename:join(Folder, "peers"),
    ok = file:write_file(Peers, <<>>),
    ok = curve_tun_test:start([{registry_file, Peers}]),
    {Listener, Port} = curve_tun_test:listen([{active, true}]),
    Acceptor = spawn(fun() -> accept_all(Listener) end),
    ok = curve_tun:controlling_process(Listener, Acceptor),
    {ok, Key} = curve_tun:public_key(),
    [{known, filename:join(Folder, "known")}, {peers, Peers}, {port, Port}, {key, Key} | Config].

end_per_testcase(_, _) ->
    curve_tun_test:stop().

%% Accepts every client, for as long as the listener lives.
accept_all(Listener) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, _} -> accept_all(Listener);
        {error, closed} -> ok
    end.

get(Name, Config) -> proplists:get_value(Name, Config).
text(Key) -> curve_tun:public_key_to_text(Key).

%% Connects to the server of the test, closes, and returns the result.
connect(Options, Config) ->
    connect("localhost", Options, Config).

connect(Host, Options, Config) ->
    case curve_tun:connect(Host, get(port, Config), Options, ?PATIENCE) of
        {ok, Socket} ->
            {ok, Key} = curve_tun:peer_public_key(Socket),
            ok = curve_tun:close(Socket),
            {ok, Key};
        {error, Reason} ->
            {error, Reason}
    end.

%% Connects with a given key, as the file and the policy allow.
known(Key, FirstUse, Config) ->
    connect([{key, Key}, {known_servers, get(known, Config)}, {first_use, FirstUse}], Config).

remembered(Config) ->
    {ok, Text} = file:read_file(get(known, Config)),
    Text.

line(Host, Key, Config) ->
    iolist_to_binary([$[, Host, "]:", integer_to_list(get(port, Config)), $\s, text(Key), $\n]).

never(_Host, _Port, _Key) -> exit(asked).

%%% Trust on first use

a_first_use_is_decided_and_remembered(Config) ->
    Key = get(key, Config),
    {error, {unknown_peer, Key}} = connect([{key, Key}, {known_servers, get(known, Config)}], Config),
    {error, {unknown_peer, Key}} = known(Key, refuse, Config),
    {ok, Key} = known(Key, once, Config),
    <<>> = remembered(Config),
    {error, {unknown_peer, Key}} = known(Key, refuse, Config),
    {ok, Key} = known(Key, remember, Config),
    ?assertEqual(line("localhost", Key, Config), remembered(Config)),
    {ok, Key} = known(Key, refuse, Config),
    {ok, Key} = known(Key, fun never/3, Config),
    ?assertEqual(line("localhost", Key, Config), remembered(Config)),
    %% Another form of a name is the same server, while an address is another one.
    {ok, Key} = connect('LocalHost', [{key, Key}, {known_servers, get(known, Config)}], Config),
    {error, {unknown_peer, Key}} = connect({127,0,0,1}, [{key, Key}, {known_servers, get(known, Config)}], Config),
    Binary = list_to_binary(get(known, Config)),
    {ok, Key} = connect({127,0,0,1}, [{key, Key}, {known_servers, Binary}, {first_use, remember}], Config),
    ?assertEqual(<<(line("localhost", Key, Config))/binary, (line("127.0.0.1", Key, Config))/binary>>, remembered(Config)),
    %% The next run of the program knows it.
    curve_tun_test:stop(),
    ok = curve_tun_test:start([{registry_file, get(peers, Config)}]),
    {error, {key_changed, Key, ?OTHER}} = known(?OTHER, fun never/3, Config).

a_changed_key_is_refused_before_anything_is_sent(Config) ->
    {ok, Nobody} = gen_tcp:listen(0, [{ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Nobody),
    ok = file:write_file(get(known, Config), line("127.0.0.1", ?OTHER, [{port, Port}])),
    {error, {key_changed, ?OTHER, ?THIRD}} =
        curve_tun:connect({127,0,0,1}, Port, [{key, ?THIRD}, {known_servers, get(known, Config)}, {first_use, remember}]),
    {error, {unknown_peer, ?THIRD}} =
        curve_tun:connect("localhost", Port, [{key, ?THIRD}, {known_servers, get(known, Config)}]),
    {error, timeout} = gen_tcp:accept(Nobody, 50).

a_key_is_remembered_once_it_is_proven(Config) ->
    Key = get(key, Config),
    {error, wrong_server_key} = known(?OTHER, remember, Config),
    <<>> = remembered(Config),
    {ok, Nobody} = gen_tcp:listen(0, [{ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Nobody),
    {error, timeout} =
        curve_tun:connect("localhost", Port, [{key, Key}, {known_servers, get(known, Config)}, {first_use, remember}], 300),
    <<>> = remembered(Config),
    {ok, Key} = known(Key, remember, Config).

%% Something other than a lock has the lock's name, so nothing can be written. It is logged, and the
%% next use is a first use again.
a_tunnel_outlives_a_key_that_cannot_be_remembered(Config) ->
    Key = get(key, Config),
    Lock = get(known, Config) ++ ".lock",
    ok = file:make_dir(Lock),
    Log = curve_tun_test:forward_log(warning),
    Options = [{key, Key}, {known_servers, get(known, Config)}, {first_use, remember}],
    {ok, Socket} = curve_tun:connect("localhost", get(port, Config), Options, ?PATIENCE),
    ok = logger:remove_handler(Log),
    ok = logger:set_primary_config(level, notice),
    receive {log, #{level := warning, msg := {Format, Values}}} ->
        ?assertMatch({match, _}, re:run(io_lib:format(Format, Values), "could not remember its key: io"))
    end,
    ok = curve_tun:send(Socket, <<"hello">>),
    ok = curve_tun:close(Socket),
    <<>> = remembered(Config),
    {error, {unknown_peer, Key}} = known(Key, refuse, Config),
    ok = file:del_dir(Lock),
    {ok, Key} = known(Key, remember, Config),
    ?assertEqual(line("localhost", Key, Config), remembered(Config)).

a_function_decides(Config) ->
    {Key, Port, Test} = {get(key, Config), get(port, Config), self()},
    Says = fun(Decision) -> fun(H, P, K) -> Test ! {asked, H, P, K}, Decision end end,
    Asked = fun() -> receive {asked, H, P, K} -> {H, P, K} after 0 -> nobody end end,
    {error, {unknown_peer, Key}} = known(Key, Says(refuse), Config),
    {<<"localhost">>, Port, Key} = Asked(),
    {ok, Key} = known(Key, Says(once), Config),
    {<<"localhost">>, Port, Key} = Asked(),
    {ok, Key} = known(Key, Says(remember), Config),
    {<<"localhost">>, Port, Key} = Asked(),
    {ok, Key} = known(Key, Says(refuse), Config),
    nobody = Asked().

a_function_that_fails_refuses(Config) ->
    Key = get(key, Config),
    [?assertEqual({error, {unknown_peer, Key}}, known(Key, FirstUse, Config))
     || FirstUse <- [fun(_, _, _) -> error(failed) end,
                     fun(_, _, _) -> exit(remember) end,
                     fun(_, _, _) -> throw(remember) end,
                     fun(_, _, _) -> exit(self(), kill), timer:sleep(infinity) end,
                     fun(_, _, _) -> spawn_link(fun() -> exit(failed) end), timer:sleep(infinity) end,
                     fun(_, _, _) -> yes end,
                     fun(_, _, _) -> {ok, remember} end,
                     fun(_, _, _) -> true end]],
    <<>> = remembered(Config),
    receive Message -> ct:fail({unexpected, Message}) after 0 -> ok end.

a_function_that_hangs_refuses_in_time(Config) ->
    {Key, Test} = {get(key, Config), self()},
    Hangs = fun(_, _, _) -> Test ! {hangs, self()}, timer:sleep(infinity) end,
    Options = [{key, Key}, {known_servers, get(known, Config)}, {first_use, Hangs}],
    {error, {unknown_peer, Key}} = curve_tun:connect("localhost", get(port, Config), Options, 300),
    Gone = fun(Pid) -> curve_tun_test:until(fun() -> not is_process_alive(Pid) end) end,
    receive {hangs, First} -> Gone(First) end,
    %% It also ends with the connecting process.
    Client = spawn(fun() -> curve_tun:connect("localhost", get(port, Config), Options) end),
    receive {hangs, Second} -> exit(Client, kill), Gone(Second) end.

a_denied_key_is_refused(Config) ->
    Key = get(key, Config),
    ok = file:write_file(get(known, Config), [line("localhost", Key, Config), "! ", text(Key), " lost\n"]),
    {error, {key_denied, Key}} = known(Key, fun never/3, Config),
    {error, {key_changed, Key, ?OTHER}} = known(?OTHER, fun never/3, Config).

nothing_is_trusted_while_the_file_is_unusable(Config) ->
    {Key, File} = {get(key, Config), get(known, Config)},
    {ok, Key} = known(Key, remember, Config),
    ok = file:write_file(File, "garbage\n"),
    {error, bad_registry_file} = known(Key, remember, Config),
    ok = file:write_file(File, line("localhost", Key, Config)),
    {ok, Key} = known(Key, refuse, Config),
    ok = file:change_mode(File, 8#666),
    {error, registry_permissions} = known(Key, remember, Config),
    ok = file:change_mode(File, 8#644),
    {ok, Key} = known(Key, refuse, Config),
    %% A file that has disappeared is not created again, since all servers would become strangers.
    ok = file:delete(File),
    {error, enoent} = known(Key, remember, Config),
    false = filelib:is_file(File),
    {error, enoent} = connect([{key, Key}, {known_servers, filename:join(File, "in_no_folder")}], Config).

%% Another program remembers its key while the user of this one is asked.
a_key_that_another_program_remembered_first_wins(Config) ->
    Key = get(key, Config),
    Before = curve_tun_test:count(),
    Meanwhile = fun(_, _, _) -> ok = file:write_file(get(known, Config), line("localhost", ?OTHER, Config)), remember end,
    {error, {key_changed, ?OTHER, Key}} = known(Key, Meanwhile, Config),
    ?assertEqual(line("localhost", ?OTHER, Config), remembered(Config)),
    curve_tun_test:settled(Before).

%% Another program denies the key meanwhile.
a_key_that_is_denied_meanwhile_is_refused(Config) ->
    Key = get(key, Config),
    Before = curve_tun_test:count(),
    Denial = iolist_to_binary(["! ", text(Key), $\n]),
    Meanwhile = fun(_, _, _) -> ok = file:write_file(get(known, Config), Denial), remember end,
    {error, {key_denied, Key}} = known(Key, Meanwhile, Config),
    ?assertEqual(Denial, remembered(Config)),
    curve_tun_test:settled(Before).

%%% Connecting by name

a_server_in_the_file_is_found_by_name(Config) ->
    Key = get(key, Config),
    {ok, Clients} = file:read_file(get(peers, Config)),
    Write = fun(Lines) -> ok = file:write_file(get(peers, Config), [Clients | Lines]) end,
    {error, not_found} = connect([], Config),
    Write([line("localhost", ?OTHER, Config)]),
    {error, wrong_server_key} = connect([], Config),
    Write([line("localhost", ?OTHER, Config), line("localhost", Key, Config), line("::1", Key, Config)]),
    {ok, Key} = connect([], Config),
    {ok, Key} = connect('LOCALHOST', [{registry, curve_tun_simple_registry}], Config),
    {error, not_found} = connect({127,0,0,1}, [], Config),
    {error, not_found} = curve_tun:connect("localhost", 1, []),
    %% A given key takes precedence.
    {error, wrong_server_key} = connect([{key, ?OTHER}], Config),
    %% A denied key is not tried.
    Write([line("localhost", ?OTHER, Config), "! ", text(?OTHER), "\n"]),
    {error, not_found} = connect([], Config),
    [{error, badarg} = connect(Host, [], Config)
     || Host <- ["", "a b", "a..b", [16#20ac], {1,2,3}, any, loopback]],
    {error, eafnosupport} = connect({local, "/x"}, [], Config),
    {error, badarg} = curve_tun:connect("localhost", 0, []),
    {error, badarg} = curve_tun:connect("localhost", 65536 + get(port, Config), []),
    {error, badarg} = curve_tun:connect("localhost", http, []),
    %% A registry in memory knows no servers.
    curve_tun_test:stop(),
    ok = application:load(curve_tun),
    ok = curve_tun_test:start(),
    {error, {missing_option, key}} = connect([], Config),
    {error, {missing_option, key}} = connect([{registry, curve_tun_test_registry}], Config).

%% Keys that the registry knows are checked against the client's known servers like any other: an
%% untrusted key is not tried.
keys_by_name_are_trusted_like_others(Config) ->
    Key = get(key, Config),
    Known = fun(FirstUse) -> connect([{registry, curve_tun_test_servers}, {known_servers, get(known, Config)},
                                      {first_use, FirstUse}], Config) end,
    Keys = fun(Keys) -> curve_tun_test_servers:behave(fun(_, _) -> {ok, Keys} end) end,
    Keys([?OTHER, Key]),
    {error, {unknown_peer, ?OTHER}} = Known(refuse),
    {ok, Key} = Known(once),
    {ok, Key} = Known(remember),
    ?assertEqual(line("localhost", Key, Config), remembered(Config)),
    [begin Keys(Some), {ok, Key} = Known(fun never/3) end || Some <- [[?OTHER, Key], [Key, ?OTHER], [Key]]],
    Keys([?OTHER, ?THIRD]),
    {error, {key_changed, Key, ?OTHER}} = Known(remember),
    ok = file:write_file(get(known, Config), [line("localhost", ?OTHER, Config), "! ", text(?THIRD), "\n"]),
    Keys([?OTHER, Key]),
    {error, {key_changed, ?OTHER, Key}} = Known(remember),
    Keys([?THIRD, ?OTHER]),
    {error, {key_denied, ?THIRD}} = Known(remember),
    Keys([?OTHER]),
    {error, wrong_server_key} = Known(remember).

a_registry_in_erlang_knows_servers(Config) ->
    {Key, Port, Test} = {get(key, Config), get(port, Config), self()},
    curve_tun_test_servers:behave(fun(H, P) -> Test ! {asked, H, P}, {ok, [Key]} end),
    [begin
         {ok, Key} = connect(Host, [{registry, curve_tun_test_servers}], Config),
         receive {asked, H, P} -> ?assertEqual({Name, Port}, {H, P}) after 0 -> ct:fail(not_asked) end
     end || {Host, Name} <- [{"LocalHost", <<"localhost">>}, {localhost, <<"localhost">>}, {{127,0,0,1}, <<"127.0.0.1">>},
                             {"127.0.0.1", <<"127.0.0.1">>}]],
    ok = application:set_env(curve_tun, registry_providers, [curve_tun_test_servers]),
    {ok, Key} = connect([], Config),
    ok = application:set_env(curve_tun, registry_providers, []),
    {error, {no_provider, registry}} = connect([], Config).

a_registry_in_erlang_that_fails(Config) ->
    [begin
         curve_tun_test_servers:behave(Fun),
         ?assertEqual({error, Reason}, connect([{registry, curve_tun_test_servers}], Config))
     end || {Reason, Fun} <- [{registry_failed, fun(_, _) -> error(failed) end},
                              {registry_failed, fun(_, _) -> exit(normal) end},
                              {registry_failed, fun(_, _) -> exit(self(), kill), timer:sleep(infinity) end},
                              {registry_failed,
                               fun(_, _) -> spawn_link(fun() -> exit(failed) end), timer:sleep(infinity) end},
                              {registry_failed, fun(_, _) -> {ok, []} end},
                              {registry_failed, fun(_, _) -> {ok, [<<1>>]} end},
                              {registry_failed, fun(_, _) -> {ok, [?OTHER | ?OTHER]} end},
                              {registry_failed, fun(_, _) -> ?OTHER end},
                              {registry_failed, fun(_, _) -> {error, "text"} end},
                              {not_found, fun(_, _) -> {error, not_found} end},
                              {db_is_down, fun(_, _) -> {error, db_is_down} end},
                              {{missing_option, key}, fun(_, _) -> {error, enotsup} end}]].

a_slow_registry_takes_no_longer_than_the_caller(Config) ->
    Test = self(),
    curve_tun_test_servers:behave(fun(_, _) -> Test ! {hangs, self()}, timer:sleep(infinity) end),
    Options = [{registry, curve_tun_test_servers}],
    {error, timeout} = curve_tun:connect("localhost", get(port, Config), Options, 200),
    {error, timeout} = curve_tun:connect("localhost", get(port, Config), [{handshake_timeout, 200} | Options]),
    [receive {hangs, Pid} -> curve_tun_test:until(fun() -> not is_process_alive(Pid) end) end || _ <- [1, 2]].

options_that_would_check_nothing(Config) ->
    {Key, File} = {get(key, Config), get(known, Config)},
    {error, {missing_option, known_servers}} = connect([{key, Key}, {first_use, once}], Config),
    [?assertEqual({error, {bad_option, Bad}}, connect([{key, Key}, {known_servers, File}, Bad], Config))
     || Bad <- [{first_use, maybe_so}, {first_use, fun() -> once end}, {known_servers, ""}, {known_servers, <<>>},
                {known_servers, 1}, {known_servers, [$/, 16#d800]}]],
    {error, {bad_option, {known_servers, _}}} = curve_tun:listen(0, [{known_servers, File}]),
    {ok, Tcp} = gen_tcp:connect("localhost", get(port, Config), []),
    {error, {bad_option, {known_servers, _}}} = curve_tun:handshake(Tcp, [{key, Key}, {known_servers, File}], 1000),
    {error, {bad_option, {first_use, once}}} = curve_tun:handshake(Tcp, [{key, Key}, {first_use, once}], 1000),
    false = filelib:is_file(File).
