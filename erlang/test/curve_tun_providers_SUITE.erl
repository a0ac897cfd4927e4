%%% Vaults and registries: the built-in ones, and those written in Erlang, good and bad.
-module(curve_tun_providers_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/2, stop_pair/1, connect/1, connect/2, listen/1]).

-compile([export_all, nowarn_export_all]).

-define(SERVER, [{vault, curve_tun_test_vault}, {registry, curve_tun_test_registry}]).
-define(CLIENT, [{vault, curve_tun_test_vault}]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [providers_in_erlang_work, slow_providers_keep_nobody_waiting, a_slow_vault_is_asked_by_a_hundred_at_once,
     a_bad_registry_refuses_that_client_only, a_bad_vault_refuses_that_client_only,
     a_bad_vault_of_the_client_is_its_own_error, helpers_leave_nothing_behind,
     the_server_is_told_whose_failure_it_is, an_unknown_peer_is_told_to_the_server,
     accept_goes_on_to_the_next_client, a_vault_seals_under_its_own_nonces_once, a_vault_in_a_file,
     a_program_holds_nothing_of_a_vault, no_provider_is_an_error,
     the_dummy_warns_and_is_never_the_default, without_the_application].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) ->
    curve_tun_test:flush(),
    _ = curve_tun_test_vault:well(),
    ok = curve_tun_test_registry:behave(well),
    Config.
end_per_testcase(_, _) -> ok.

providers_in_erlang_work(_) ->
    {Client, Server} = Pair = pair(?CLIENT, ?SERVER),
    ok = curve_tun:send(Client, <<"1">>),
    <<"1">> = curve_tun:recv(Server),
    1 = curve_tun_test_registry:calls(),
    stop_pair(Pair).

slow_providers_keep_nobody_waiting(_) ->
    curve_tun_test_registry:behave({slow, 1500}),
    {Listener, Port} = listen(?SERVER),
    Test = self(),
    Client = fun(Name) ->
                 {ok, S} = connect(Port),
                 ok = curve_tun:send(S, Name),
                 Test ! Name,
                 receive never -> ok end
             end,
    Acceptor = spawn_link(fun() ->
                   [begin {ok, S} = curve_tun:accept(Listener, 20000), Test ! {got, curve_tun:recv(S)} end || _ <- [1, 2]],
                   receive never -> ok end
               end),
    spawn_link(fun() -> Client(<<"slow">>) end),
    receive <<"slow">> -> ok end,
    %% The slow client's verdict is still pending when the next one's comes.
    curve_tun_test:until(fun() -> curve_tun_test_registry:calls() =:= 1 end),
    curve_tun_test_registry:behave(well),
    spawn_link(fun() -> Client(<<"quick">>) end),
    receive {got, First} -> <<"quick">> = First end,
    receive {got, Second} -> <<"slow">> = Second end,
    unlink(Acceptor),
    ok = curve_tun:close(Listener).

%% Each call of the vault takes 50 ms. A hundred handshakes call it concurrently: no hello is
%% answered before all have been asked.
a_slow_vault_is_asked_by_a_hundred_at_once(_) ->
    Meeting = curve_tun_test_vault:meeting(100, 50),
    {Listener, Port} = listen([{handshake_timeout, 60000} | ?SERVER]),
    curve_tun_test_vault:behave(box_open, Meeting),
    [curve_tun_test_vault:behave(Function, {slow, 50}) || Function <- [box, safe_nonce]],
    Acceptor = spawn_link(fun Loop() ->
                   {ok, S} = curve_tun:accept(Listener, infinity),
                   ok = curve_tun:send(S, <<"hello">>),
                   Loop()
               end),
    {ok, Key} = curve_tun:public_key(),
    Clients = [spawn_monitor(fun() ->
                   {ok, S} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}, {handshake_timeout, 60000}], 60000),
                   <<"hello">> = curve_tun:recv(S, 60000),
                   ok = curve_tun:close(S)
               end) || _ <- lists:seq(1, 100)],
    [receive {'DOWN', Ref, process, Pid, Reason} -> normal = Reason end || {Pid, Ref} <- Clients],
    ?assert(curve_tun_test_vault:most_at_once(Meeting) >= 100),
    unlink(Acceptor),
    exit(Acceptor, kill),
    ok = curve_tun:close(Listener).

%% A server with a misbehaving provider refuses a client, and serves the next one once it behaves.
refused_then_served(Misbehave, Behave) ->
    {Listener, Port} = listen([{handshake_timeout, 1000} | ?SERVER]),
    Test = self(),
    Acceptor = spawn_link(fun() -> Test ! {accepted, curve_tun:accept(Listener, 20000)}, receive never -> ok end end),
    [begin
         Misbehave(How),
         case connect(Port) of
             {ok, Refused} -> {error, closed} = curve_tun:recv(Refused, 30000);
             {error, Reason} -> true = lists:member(Reason, [closed, wrong_server_key])
         end
     end || How <- [crash, kill, hang, dead, exit, throw, {say, nonsense}, {say, {ok, true}}, {say, <<>>}]],
    Behave(),
    {ok, Served} = connect(Port),
    receive {accepted, {ok, Server}} -> ok end,
    ok = curve_tun:send(Served, <<"1">>),
    <<"1">> = curve_tun:recv(Server),
    unlink(Acceptor),
    exit(Acceptor, kill),
    ok = curve_tun:close(Listener).

a_bad_registry_refuses_that_client_only(_) ->
    refused_then_served(fun(exit) -> curve_tun_test_registry:behave({say, undefined});
                           (throw) -> curve_tun_test_registry:behave({say, 1});
                           (How) -> curve_tun_test_registry:behave(How)
                        end,
                        fun() -> curve_tun_test_registry:behave(well) end).

a_bad_vault_refuses_that_client_only(_) ->
    [refused_then_served(fun(dead) -> curve_tun_test_vault:behave(Function, {say, <<0:64>>});
                            (How) -> curve_tun_test_vault:behave(Function, How)
                         end,
                         fun curve_tun_test_vault:well/0)
     || Function <- [box, box_open, safe_nonce]].

a_bad_vault_of_the_client_is_its_own_error(_) ->
    {Listener, Port} = listen([]),
    spawn_link(fun() -> curve_tun:accept(Listener, 60000) end),
    [begin
         curve_tun_test_vault:behave(Function, How),
         ?assertEqual({error, vault_failed}, connect(Port, ?CLIENT)),
         curve_tun_test_vault:well()
     end || Function <- [public_key, box, safe_nonce], How <- [crash, kill, {say, nonsense}, {say, <<1>>}]],
    curve_tun_test_vault:behave(box, hang),
    {error, timeout} = connect(Port, [{handshake_timeout, 200} | ?CLIENT]),
    curve_tun_test_vault:well(),
    curve_tun_test_vault:behave(public_key, hang),
    {error, timeout} = connect(Port, [{handshake_timeout, 200} | ?CLIENT]),
    ok = curve_tun:close(Listener).

helpers_leave_nothing_behind(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port} = listen(?SERVER),
    curve_tun_test_registry:behave(hang),
    Test = self(),
    Owner = spawn(fun() ->
                [{ok, _} = connect(Port) || _ <- lists:seq(1, 10)],
                Test ! connected,
                receive never -> ok end
            end),
    spawn_link(fun() -> curve_tun:accept(Listener, 10000) end),
    receive connected -> ok end,
    curve_tun_test:until(fun() -> curve_tun_test_registry:calls() =:= 10 end),
    ok = curve_tun:close(Listener),
    exit(Owner, kill),
    curve_tun_test:settled(Before).

the_server_is_told_whose_failure_it_is(_) ->
    {Listener, Port} = listen([{handshake_timeout, 30000} | ?SERVER]),
    Result = fun() ->
                 spawn_link(fun() -> _ = connect(Port), receive never -> ok end end),
                 {ok, Socket} = curve_tun:transport_accept(Listener),
                 curve_tun:handshake(Socket, 20000)
             end,
    [begin
         curve_tun_test_registry:behave(How),
         ?assertEqual({How, {error, registry_failed}}, {How, Result()})
     end || How <- [crash, kill, {say, nonsense}]],
    curve_tun_test_registry:behave(well),
    [begin
         curve_tun_test_vault:behave(box_open, How),
         ?assertEqual({How, {error, vault_failed}}, {How, Result()})
     end || How <- [crash, kill, {say, nonsense}]],
    ok = curve_tun:close(Listener).

an_unknown_peer_is_told_to_the_server(_) ->
    {Listener, Port} = listen([{registry, curve_tun_test_registry}]),
    curve_tun_test_registry:behave({say, false}),
    spawn_link(fun() -> {ok, S} = connect(Port), {error, closed} = curve_tun:recv(S) end),
    {ok, Socket} = curve_tun:transport_accept(Listener),
    {error, unknown_peer} = curve_tun:handshake(Socket, 5000),
    {error, closed} = curve_tun:recv(Socket),
    ok = curve_tun:close(Listener).

accept_goes_on_to_the_next_client(_) ->
    {Listener, Port} = listen([{registry, curve_tun_test_registry}]),
    curve_tun_test_registry:behave({say, false}),
    Test = self(),
    Acceptor = spawn_link(fun() -> Test ! {accepted, curve_tun:accept(Listener, 20000)}, receive never -> ok end end),
    {ok, Refused} = connect(Port),
    {error, closed} = curve_tun:recv(Refused),
    curve_tun_test_registry:behave(well),
    {ok, Served} = connect(Port),
    receive {accepted, {ok, _}} -> ok end,
    unlink(Acceptor),
    [ok = curve_tun:close(S) || S <- [Served, Listener]].

a_vault_seals_under_its_own_nonces_once(_) ->
    {ok, Peer} = curve_tun:public_key(),
    [begin
         Nonce = Vault:safe_nonce(),
         16 = byte_size(Nonce),
         Whole = <<Prefix/binary, Nonce/binary>>,
         Box = Vault:box(<<"message">>, Whole, Peer),
         23 = byte_size(Box),
         ?assertError(badarg, Vault:box(<<"message">>, Whole, Peer))
     end || Vault <- [curve_tun_vault_nif], Prefix <- [<<"CurveCPK">>, <<"CurveCPV">>]],
    Vault = curve_tun_vault_nif,
    ?assertError(badarg, Vault:box(<<"m">>, <<"CurveCPK", 0:128>>, Peer)),
    ?assertError(badarg, Vault:box(<<"m">>, <<"CurveCP-client-M", 0:64>>, Peer)),
    ?assertError(badarg, Vault:box(<<"m">>, <<"CurveCP-client-H", 0:64>>, Peer)),
    Mine = Vault:safe_nonce(),
    ?assertError(badarg, Vault:box(<<"m">>, <<"minute-k", Mine/binary>>, Peer)),
    %% To itself: box and box_open agree on the key.
    Again = Vault:safe_nonce(),
    Sealed = Vault:box(<<"to myself">>, <<"CurveCPV", Again/binary>>, Peer),
    {ok, <<"to myself">>} = Vault:box_open(Sealed, <<"CurveCPV", Again/binary>>, Peer),
    {error, failed_verification} = Vault:box_open(Sealed, <<"CurveCPK", Again/binary>>, Peer),
    {error, failed_verification} = Vault:box_open(<<"short">>, <<"CurveCPV", Again/binary>>, Peer),
    Nonces = [Vault:safe_nonce() || _ <- lists:seq(1, 10000)],
    10000 = length(lists:usort(Nonces)).

%% A vault in a file keeps its key across restarts of the application; one that cannot be opened
%% prevents the start.
a_vault_in_a_file(Config) ->
    curve_tun_test:stop(),
    File = filename:join(proplists:get_value(priv_dir, Config), "no.vault"),
    ok = application:load(curve_tun),
    ok = application:set_env(curve_tun, vault_file, File),
    ok = logger:set_primary_config(level, none),
    {error, {curve_tun, Why}} = application:ensure_all_started(curve_tun),
    ok = logger:set_primary_config(level, notice),
    ?assertNotEqual(nomatch, string:find(io_lib:format("~p", [Why]), "enoent")),
    curve_tun_test:stop(),
    {ok, Key} = curve_tun_vault_nif:create_file(File),
    {error, eexist} = curve_tun_vault_nif:create_file(File),
    [begin
         ok = curve_tun_test:start([{vault_file, File}]),
         {ok, Key} = curve_tun:public_key(),
         stop_pair(pair([], [])),
         <<_:16/binary>> = curve_tun_vault_nif:safe_nonce(),
         curve_tun_test:stop()
     end || _ <- [1, 2, 3]],
    ok = curve_tun_test:start().

%% The heaps of a program's processes, including uncollected garbage, do not hold a vault: its file
%% is free when the application has stopped. The processes differ in when their heaps were last
%% collected.
a_program_holds_nothing_of_a_vault(Config) ->
    curve_tun_test:stop(),
    File = filename:join(proplists:get_value(priv_dir, Config), "held.vault"),
    {ok, _} = curve_tun_vault_nif:create_file(File),
    ok = curve_tun_test:start([{vault_file, File}]),
    Test = self(),
    Program = fun(Filled) ->
                  true = Filled =:= length(lists:duplicate(Filled, [])),
                  {Listener, Port} = curve_tun_test:listen(),
                  {ok, Socket} = gen_tcp:connect({127,0,0,1}, Port, [{active, false}]),
                  {error, timeout} = curve_tun:handshake(Socket, [], 1),
                  Test ! {self(), done},
                  receive enough -> Listener end
              end,
    Programs = [spawn_link(fun() -> Program(Filled) end) || Filled <- lists:seq(0, 400, 4)],
    [receive {Pid, done} -> ok after 10000 -> ct:fail(stuck) end || Pid <- Programs],
    curve_tun_test:stop(),
    ok = curve_tun_test:start([{vault_file, File}]),
    [Pid ! enough || Pid <- Programs],
    curve_tun_test:stop(),
    ok = curve_tun_test:start().

no_provider_is_an_error(_) ->
    {ok, Old} = application:get_env(curve_tun, vault_providers),
    ok = application:set_env(curve_tun, vault_providers, []),
    {error, {no_provider, vault}} = curve_tun:listen(0, []),
    {error, {no_provider, vault}} = curve_tun:connect({127,0,0,1}, 1, [{key, <<9:256/little>>}]),
    ok = application:set_env(curve_tun, vault_providers, Old),
    {error, {bad_option, {vault, no_such_module}}} = curve_tun:listen(0, [{vault, no_such_module}]).

the_dummy_warns_and_is_never_the_default(_) ->
    curve_tun_test:stop(),
    ok = application:load(curve_tun),
    {ok, [curve_tun_vault_nif]} = application:get_env(curve_tun, vault_providers),
    Id = curve_tun_test:forward_log(warning),
    ok = curve_tun_test:start([{vault_providers, [curve_tun_vault_dummy]}]),
    receive {log, #{level := warning}} -> ok after 1000 -> ct:fail(no_warning) end,
    ok = logger:remove_handler(Id),
    ok = logger:set_primary_config(level, notice),
    <<81, 13, 101, 52, 29, 109, 136, 196, 86, 91, 34, 91, 3, 19, 150, 3, 215, 43, 210, 9, 242, 146, 119, 188, 153, 245,
      78, 232, 94, 113, 37, 47>> = curve_tun_vault_dummy:public_key(),
    curve_tun_test:stop(),
    ok = curve_tun_test:start().

without_the_application(_) ->
    curve_tun_test:stop(),
    {error, _} = curve_tun:listen(0, []),
    {error, _} = curve_tun:connect({127,0,0,1}, 1, [{key, <<9:256/little>>}]),
    {error, {not_started, curve_tun}} = curve_tun_simple_registry:register({127,0,0,1}, <<9:256>>),
    ok = curve_tun_test:start().
