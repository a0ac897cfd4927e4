%%% Every kind of vault under the application: in memory, in a file, sealed by a passphrase, in an
%%% agent, in a token, and written in Erlang. The application runs in a separate node, since a
%%% token's module reads the environment that the process got from the operating system.
-module(curve_tun_vaults_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(KINDS, [memory, file, sealed_file, agent, token, erlang]).
-define(PASSPHRASE, "correct horse battery").
-define(PIN, "1234-user").

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [{group, Kind} || Kind <- ?KINDS]
        ++ [an_agent_that_is_silent_holds_up_nothing_else, an_agent_may_be_restarted, a_handshake_tells_why_its_agent_failed,
            what_cannot_be_opened_stops_the_start].

groups() ->
    [{Kind, [], [messages_go_both_ways, many_handshakes_at_once, the_key_after_a_restart, boxes_of_its_own_nonces,
                 the_process_comes_back_with_the_key]}
     || Kind <- ?KINDS].

init_per_suite(Config) ->
    %% Building the tool takes longer than any test.
    ct:timetrap({minutes, 30}),
    Folder = proplists:get_value(priv_dir, Config),
    [{tool, tool()}, {conf, softhsm(Folder)} | Config].

end_per_suite(_) -> ok.

init_per_group(Kind, Config) ->
    Group = proplists:get_value(priv_dir, Config),
    {Env, More} = environment(Kind, [{folder, filename:join(Group, atom_to_list(Kind))} | Config]),
    [{kind, Kind}, {env, Env} | More].

end_per_group(_, Config) ->
    stop_agent(Config).

init_per_testcase(_, Config) ->
    {ok, Node, _} = peer:start(#{connection => standard_io, wait_boot => 60000,
                                 env => [{"SOFTHSM2_CONF", proplists:get_value(conf, Config)}],
                                 args => ["-pa" | code:get_path()]}),
    [{node, Node} | Config].

end_per_testcase(_, Config) ->
    peer:stop(proplists:get_value(node, Config)).

%%% Prerequisites of the kinds

%% The tool, as shipped.
tool() ->
    Root = curve_tun_interop_SUITE:root(filename:dirname(filename:absname(code:which(?MODULE)))),
    {0, _} = run("make", ["-C", Root, "--no-print-directory", "tool"], 1800000),
    filename:join(Root, "build/bin/curve-tun").

run(Program, Arguments, Patience) ->
    curve_tun_interop_SUITE:run(Program, Arguments, Patience).

%% A folder for SoftHSM's tokens, and its configuration.
softhsm(Folder) ->
    Tokens = filename:join(Folder, "tokens"),
    Conf = filename:join(Folder, "softhsm2.conf"),
    ok = filelib:ensure_path(Tokens),
    ok = file:write_file(Conf, ["directories.tokendir = ", Tokens, "\nobjectstore.backend = file\n"]),
    Conf.

module() ->
    [Module | _] = [File || Pattern <- ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so"],
                            File <- filelib:wildcard(Pattern)],
    Module.

%% Returns the application's environment for a new vault of this kind.
environment(Kind, Config) ->
    Folder = proplists:get_value(folder, Config),
    ok = filelib:ensure_path(Folder),
    environment(Kind, Folder, Config).

environment(memory, _Folder, Config) ->
    {[], Config};
environment(erlang, _Folder, Config) ->
    {[{vault_providers, [curve_tun_test_vault, curve_tun_vault_nif]}], Config};
environment(file, Folder, Config) ->
    {[{vault_file, file_vault(Folder, [], Config)}], Config};
environment(sealed_file, Folder, Config) ->
    File = secret(Folder, ?PASSPHRASE),
    Sealed = file_vault(Folder, ["--passphrase-file", File, "--cost", "interactive"], Config),
    {[{vault_file, Sealed}, {vault_passphrase_file, File}], Config};
environment(agent, Folder, Config) ->
    Vault = file_vault(Folder, [], Config),
    %% The address of a Unix socket has at most 107 bytes, which the folder of a test may exceed.
    Socket = filename:join("/tmp", "curve_tun_agent_" ++ os:getpid()),
    Agent = start_agent(Vault, Socket, Config),
    {[{vault_agent, list_to_binary(Socket)}], [{agent, Agent}, {agent_vault, Vault}, {socket, Socket} | Config]};
environment(token, Folder, Config) ->
    Conf = proplists:get_value(conf, Config),
    {0, _} = run("env", ["SOFTHSM2_CONF=" ++ Conf, "softhsm2-util", "--init-token", "--free", "--label", "erlang",
                         "--so-pin", "so-5678", "--pin", ?PIN], 60000),
    Uri = "pkcs11:token=erlang;object=key?module-path=" ++ module() ++ "&x-curve-tun-state="
        ++ filename:join(Folder, "state"),
    File = secret(Folder, ?PIN),
    {0, _} = run("env", ["SOFTHSM2_CONF=" ++ Conf, proplists:get_value(tool, Config), "keygen", "--pkcs11", Uri,
                         "--passphrase-file", File], 60000),
    {[{vault_pkcs11, Uri}, {vault_passphrase_file, File}], Config}.

file_vault(Folder, More, Config) ->
    File = filename:join(Folder, "vault"),
    {0, _} = run(proplists:get_value(tool, Config), ["keygen", "--vault", File | More], 60000),
    File.

secret(Folder, Text) ->
    File = filename:join(Folder, "secret"),
    ok = file:write_file(File, [Text, "\nthe second line\n"]),
    ok = file:change_mode(File, 8#600),
    File.

%% Starts a listening agent, owned by a process that outlives the caller.
start_agent(Vault, Socket, Config) ->
    Test = self(),
    Tool = proplists:get_value(tool, Config),
    Owner = spawn(fun() ->
                Port = curve_tun_interop_SUITE:start(Tool, ["agent", "--vault", Vault, "--socket", Socket]),
                {os_pid, Pid} = erlang:port_info(Port, os_pid),
                listening(Port, <<>>),
                Test ! {self(), Pid},
                receive {Port, {exit_status, _}} -> ok end
            end),
    receive {Owner, Pid} -> {Owner, Pid} after 30000 -> ct:fail(no_agent) end.

listening(Port, Said) ->
    case binary:match(Said, <<"listening on ">>) of
        nomatch -> receive {Port, {data, More}} -> listening(Port, <<Said/binary, More/binary>>) end;
        _ -> ok
    end.

stop_agent(Config) ->
    case proplists:get_value(agent, Config) of
        undefined -> ok;
        {Owner, Pid} ->
            Ref = monitor(process, Owner),
            %% A test may have ended it already.
            is_process_alive(Owner) andalso signal("TERM", Pid),
            receive {'DOWN', Ref, process, Owner, _} -> ok end
    end.

signal(Name, Pid) ->
    {0, _} = run("kill", ["-" ++ Name, integer_to_list(Pid)], 10000).

%% Runs a function with an agent that has a vault of its own, outside of the groups.
with_agent(Config, Use) ->
    Folder = filename:join(proplists:get_value(priv_dir, Config), integer_to_list(erlang:unique_integer([positive]))),
    {Env, With} = environment(agent, [{folder, Folder} | Config]),
    try Use(Env, With) after stop_agent(With) end.

%%% On the other node

in(Config, Function, Arguments) ->
    peer:call(proplists:get_value(node, Config), ?MODULE, Function, Arguments, 90000).

here(Config, Function) ->
    in(Config, Function, [proplists:get_value(env, Config)]).

start(Env) ->
    ok = logger:set_primary_config(level, none),
    ok = curve_tun_test:start(Env),
    {ok, Key} = curve_tun:public_key(),
    Key.

talk() ->
    {Client, Server} = Pair = curve_tun_test:pair(),
    {ok, Key} = curve_tun:public_key(),
    [{ok, Key} = curve_tun:peer_public_key(S) || S <- [Client, Server]],
    ok = curve_tun:send(Client, <<"to the server">>),
    <<"to the server">> = curve_tun:recv(Server),
    ok = curve_tun:send(Server, <<"to the client">>),
    <<"to the client">> = curve_tun:recv(Client),
    curve_tun_test:stop_pair(Pair).

%% Starts clients that connect at once, each of which gets a message from the server.
crowd(Count) ->
    {Listener, Port} = curve_tun_test:listen(),
    Acceptor = spawn_link(fun() ->
                   [begin {ok, S} = curve_tun:accept(Listener, 60000), ok = curve_tun:send(S, <<"hello">>) end
                    || _ <- lists:seq(1, Count)],
                   receive never -> ok end
               end),
    Clients = [spawn_monitor(fun() ->
                   {ok, S} = curve_tun_test:connect(Port),
                   <<"hello">> = curve_tun:recv(S, 60000),
                   ok = curve_tun:close(S)
               end) || _ <- lists:seq(1, Count)],
    fun() ->
        [receive {'DOWN', Ref, process, Pid, Reason} -> normal = Reason end || {Pid, Ref} <- Clients],
        unlink(Acceptor),
        exit(Acceptor, kill),
        curve_tun:close(Listener)
    end.

%%% The tests of each kind

messages_go_both_ways(Config) ->
    ok = here(Config, do_messages).

do_messages(Env) ->
    start(Env),
    talk().

many_handshakes_at_once(Config) ->
    ok = here(Config, do_crowd).

do_crowd(Env) ->
    start(Env),
    (crowd(50))().

the_key_after_a_restart(Config) ->
    Keys = lists:usort(here(Config, do_restart)),
    Expected = case proplists:get_value(kind, Config) of
                   Kind when Kind =:= memory; Kind =:= erlang -> 3;
                   _ -> 1
               end,
    ?assertEqual(Expected, length(Keys)).

do_restart(Env) ->
    [begin
         Key = start(Env),
         talk(),
         curve_tun_test:stop(),
         Key
     end || _ <- [1, 2, 3]].

boxes_of_its_own_nonces(Config) ->
    ok = in(Config, do_boxes, [proplists:get_value(kind, Config), proplists:get_value(env, Config)]).

%% An agent makes the nonce itself when it boxes, so it cannot return one before.
do_boxes(agent, Env) ->
    Key = start(Env),
    ?assertError(enotsup, curve_tun_vault_nif:safe_nonce()),
    ?assertError(badarg, curve_tun_vault_nif:box(<<"m">>, <<"CurveCPV", 0:128>>, Key)),
    {error, failed_verification} = curve_tun_vault_nif:box_open(<<0:256>>, <<"CurveCPV", 0:128>>, Key),
    ok;
do_boxes(_, Env) ->
    Key = start(Env),
    Nonces = [curve_tun_vault_nif:safe_nonce() || _ <- lists:seq(1, 100)],
    100 = length(lists:usort(Nonces)),
    Whole = <<"CurveCPV", (hd(Nonces))/binary>>,
    Box = curve_tun_vault_nif:box(<<"message">>, Whole, Key),
    {ok, <<"message">>} = curve_tun_vault_nif:box_open(Box, Whole, Key),
    ?assertError(badarg, curve_tun_vault_nif:box(<<"message">>, Whole, Key)),
    ok.

the_process_comes_back_with_the_key(Config) ->
    ok = here(Config, do_kill).

do_kill(Env) ->
    Key = start(Env),
    Old = whereis(curve_tun_vault_nif),
    exit(Old, kill),
    curve_tun_test:until(fun() -> is_pid(whereis(curve_tun_vault_nif)) andalso whereis(curve_tun_vault_nif) =/= Old end),
    {ok, Key} = curve_tun:public_key(),
    talk().

%%% Purposes of agents

%% More handshakes than the node has dirty schedulers wait for an agent that does not answer. Files
%% are read meanwhile, and when it answers again, handshakes continue.
an_agent_that_is_silent_holds_up_nothing_else(Config) ->
    with_agent(Config, fun(Env, With) ->
        {_, Agent} = proplists:get_value(agent, With),
        _ = in(With, start, [Env]),
        ok = in(With, talk, []),
        signal("STOP", Agent),
        try
            %% Some may have timed out before the last came: an agent has five seconds.
            ok = in(With, do_clients, [30]),
            ok = in(With, until_waiting, [20]),
            {ok, <<_/binary>>} = in(With, read_a_file, []),
            ?assert(in(With, waiting, []) > 10)
        after
            signal("CONT", Agent)
        end,
        ok = in(With, talk, [])
    end).

%% Starts clients that connect, whatever the result.
do_clients(Count) ->
    _ = spawn(fun() ->
            {Listener, Port} = curve_tun_test:listen(),
            [spawn(fun() -> curve_tun_test:connect(Port) end) || _ <- lists:seq(1, Count)],
            [curve_tun:accept(Listener, 60000) || _ <- lists:seq(1, Count)]
        end),
    ok.

%% Returns the connections of servers that wait for their vault.
waiting() ->
    length([C || {_, C, _, _} <- supervisor:which_children(curve_tun_connection_sup), is_pid(C), asks(C)]).

asks(Connection) ->
    case catch sys:get_state(Connection, 5000) of
        {ready, Data} ->
            Handshakes = [H || H <- tuple_to_list(Data), is_tuple(H), element(1, H) =:= handshake],
            lists:any(fun(H) -> lists:keymember(nif, 1, [T || T <- tuple_to_list(H), is_tuple(T)]) end, Handshakes);
        _ ->
            false
    end.

until_waiting(Count) ->
    curve_tun_test:until(fun() -> waiting() >= Count end).

read_a_file() ->
    file:read_file(code:which(?MODULE)).

%% Handshakes that wait for a stopped agent are served by the next one.
an_agent_may_be_restarted(Config) ->
    with_agent(Config, fun(Env, With) ->
        _ = in(With, start, [Env]),
        ok = in(With, talk, []),
        stop_agent(With),
        Crowd = spawn_monitor(fun() -> ok = in(With, do_wait_for_agent, []) end),
        ok = in(With, until_waiting, [1]),
        Again = start_agent(proplists:get_value(agent_vault, With), proplists:get_value(socket, With), With),
        {Pid, Ref} = Crowd,
        receive {'DOWN', Ref, process, Pid, Reason} -> normal = Reason end,
        stop_agent([{agent, Again}])
    end).

do_wait_for_agent() ->
    (crowd(4))().

%% The agent is gone for good: its client reports that within the timeout of a request, and not as a
%% failed vault.
a_handshake_tells_why_its_agent_failed(Config) ->
    with_agent(Config, fun(Env, With) ->
        _ = in(With, start, [Env]),
        stop_agent(With),
        {error, timeout} = in(With, do_lonely_client, [])
    end).

%% The server has another vault, which answers; the client's own does not.
do_lonely_client() ->
    {ok, Server} = curve_tun_nif:vault_generate(),
    Registry = curve_tun_nif:registry_later(),
    {ok, Context} = curve_tun_nif:server_new(Server, Registry, 10, 0, <<>>, 0),
    [End, Client] = [curve_tun_nif:connection_new() || _ <- [1, 2]],
    {ok, []} = curve_tun_nif:begin_server(End, Context, self(), {127,0,0,1}),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    {ok, Hello} = curve_tun_nif:begin_client(Client, Vault, curve_tun_nif:vault_public_key(Server)),
    {ok, accepting, Cookie, <<>>, none} = curve_tun_nif:handshake(End, Hello),
    {ok, initiating, <<>>, <<>>, ask} = curve_tun_nif:handshake(Client, Cookie),
    ?assertError(badarg, curve_tun_nif:answer(Client, answered)),
    Ref = make_ref(),
    later = curve_tun_nif:ask(Client, Ref),
    receive {Ref, answered} -> ok end,
    curve_tun_nif:answer(Client, answered).

%%% Errors in the environment

what_cannot_be_opened_stops_the_start(Config) ->
    Folder = filename:join(proplists:get_value(priv_dir, Config), "wrong"),
    {[{vault_file, Sealed}, {vault_passphrase_file, Passphrase}], _} =
        environment(sealed_file, [{folder, filename:join(Folder, "sealed")} | Config]),
    [Wrong, Long, Open] =
        [begin
             File = filename:join(Folder, Name),
             ok = file:write_file(File, [Text, "\n"]),
             ok = file:change_mode(File, Mode),
             File
         end || {Name, Text, Mode} <- [{"wrong", "incorrect horse battery", 8#600},
                                       {"long", lists:duplicate(1025, $x), 8#600},
                                       {"open", ?PASSPHRASE, 8#644}]],
    Uri = "pkcs11:token=none;object=key?module-path=" ++ module(),
    [?assertEqual({Env, Reason}, {Env, in(Config, do_fail, [Env])})
     || {Reason, Env} <- [{wrong_passphrase, [{vault_file, Sealed}]},
                          {wrong_passphrase, [{vault_file, Sealed}, {vault_passphrase_file, Wrong}]},
                          {badarg, [{vault_file, Sealed}, {vault_passphrase_file, Long}]},
                          {vault_permissions, [{vault_file, Sealed}, {vault_passphrase_file, Open}]},
                          {vault_permissions, [{vault_pkcs11, Uri}, {vault_passphrase_file, Open}]},
                          {vault_permissions, [{vault_pkcs11, Uri ++ "&pin-source=" ++ Open}]},
                          {enoent, [{vault_file, Sealed}, {vault_passphrase_file, Wrong ++ "er"}]},
                          {enoent, [{vault_agent, filename:join("/tmp", "no_agent")}]},
                          {not_found, [{vault_pkcs11, Uri}]},
                          {badarg, [{vault_pkcs11, Uri ++ "&pin-value=1234"}]},
                          {badarg, [{vault_pkcs11, "pkcs12:token=none"}]},
                          {ambiguous_vault, [{vault_file, Sealed}, {vault_agent, "/tmp/no_agent"}]},
                          {ambiguous_vault, [{vault_passphrase_file, Passphrase}]}]].

do_fail(Env) ->
    ok = logger:set_primary_config(level, none),
    ok = application:load(curve_tun),
    _ = [ok = application:set_env(curve_tun, Key, Value) || {Key, Value} <- Env],
    {error, {curve_tun, Why}} = application:ensure_all_started(curve_tun),
    curve_tun_test:stop(),
    reason(Why).

%% Returns the reason of the child that did not start.
reason({{shutdown, {failed_to_start_child, curve_tun_vault_nif, Reason}}, _}) -> Reason.
