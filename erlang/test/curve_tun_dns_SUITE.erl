%%% Keys in DNS, looked up on a real server with signed zones.
-module(curve_tun_dns_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(DNS, {registry, curve_tun_dns_registry}).
-define(PATIENCE, 60000).
-define(OTHER, <<9:256/little>>).

suite() -> [{timetrap, {seconds, 180}}].

all() ->
    [clients_come_in_by_their_records, a_server_is_found_by_name_and_its_keys_are_tried_in_turn,
     answers_that_are_not_proven_are_refused, names_that_wait_hold_up_nobody,
     a_silent_name_server_refuses_those_it_is_asked_about, a_question_ends_with_the_application, what_cannot_be_used_stops_the_start].

init_per_suite(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "vault"),
    {ok, Key} = curve_tun_vault_nif:create_file(File),
    [{vault_file, File}, {key, Key} | Config].

end_per_suite(_) -> ok.
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> curve_tun_test:stop().

key(Config) -> proplists:get_value(key, Config).

name_server(Case, Config, Zones) ->
    curve_tun_test_dns:start(filename:join(proplists:get_value(priv_dir, Config), Case), Zones).

start(Config, Settings) ->
    ok = curve_tun_test:start([{vault_file, proplists:get_value(vault_file, Config)}, {registry_dns, Settings},
                               {registry_providers, [curve_tun_simple_registry, curve_tun_dns_registry]}]).

record(Name, Key) -> curve_tun_test_dns:record(Name, Key).
client(Address) -> curve_tun_test_dns:client(Address).
server(Address) -> curve_tun_test_dns:server(Address).

%% Accepts every client, for as long as the listener lives.
accept_all(Listener, Tell) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, Socket} ->
            %% A client that has left already only needed to be accepted.
            _ = case curve_tun:peername(Socket) of
                    {ok, {Address, _}} -> Tell ! {came, Address};
                    {error, _} -> left
                end,
            accept_all(Listener, Tell);
        {error, closed} ->
            ok
    end.

%% Connects from an address of this machine, and returns the server's verdict.
from(Address, {Listener, Port}, Config) ->
    Client = spawn_link(fun() ->
                 {ok, S} = curve_tun:connect({127,0,0,1}, Port, [{key, key(Config)}, {ip, Address}], ?PATIENCE),
                 receive stop -> curve_tun:close(S) end
             end),
    {ok, Socket} = curve_tun:transport_accept(Listener, ?PATIENCE),
    Result = curve_tun:handshake(Socket, ?PATIENCE),
    Client ! stop,
    case Result of
        {ok, Server} -> curve_tun:close(Server);
        {error, Reason} -> {error, Reason}
    end.

clients_come_in_by_their_records(Config) ->
    Key = key(Config),
    Lines = [record(client({127,0,0,1}), Key), record(client({127,0,0,2}), ?OTHER), record(client({127,0,0,4}), ?OTHER),
             record(client({127,0,0,4}), Key), client({127,0,0,5}), " CNAME ", client({127,0,0,1}), "\n"],
    [begin
         DNS = name_server(["clients_", atom_to_list(Signed)], Config, [{"test", Signed, Lines}]),
         start(Config, curve_tun_test_dns:settings("test", DNS)),
         Listening = {Listener, _} = curve_tun_test:listen([?DNS]),
         [?assertEqual({Address, Result}, {Address, from(Address, Listening, Config)})
          || _ <- [asked, held],
             {Result, Address} <- [{ok, {127,0,0,1}}, {{error, unknown_peer}, {127,0,0,2}},
                                   {{error, unknown_peer}, {127,0,0,3}}, {ok, {127,0,0,4}}, {ok, {127,0,0,5}}]],
         {ok, Key} = curve_tun_dns_registry:lookup({127,0,0,1}),
         ?assertEqual({ok, min(Key, ?OTHER)}, curve_tun_dns_registry:lookup({127,0,0,4})),
         {error, not_found} = curve_tun_dns_registry:lookup({192,0,2,1}),
         {error, badarg} = curve_tun_dns_registry:lookup({1,2,3,400}),
         true = curve_tun_dns_registry:verify({127,0,0,1}, Key),
         false = curve_tun_dns_registry:verify({127,0,0,2}, Key),
         ok = curve_tun:close(Listener),
         ok = curve_tun_test_dns:stop(DNS),
         curve_tun_test:stop()
     end || Signed <- [nsec, nsec3]].

a_server_is_found_by_name_and_its_keys_are_tried_in_turn(Config) ->
    Key = key(Config),
    Lines = [record(server({127,0,0,1}), ?OTHER), record(server({127,0,0,1}), Key), record("_curve_tun.db", Key),
             record("_curve_tun.old", ?OTHER)],
    start(Config, curve_tun_test_dns:settings("test", name_server("servers", Config, [{"test", nsec, Lines}]))),
    {Listener, Port} = curve_tun_test:listen([]),
    Nobody = spawn_link(fun() -> receive never -> ok end end),
    spawn_link(fun() -> accept_all(Listener, Nobody) end),
    Lookup = inet_db:res_option(lookup),
    ok = inet_db:set_lookup([file, native]),
    ok = inet_db:add_host({127,0,0,1}, ["db.test", "old.test", "none.test"]),
    [begin
         {ok, S} = curve_tun:connect(Host, Port, [?DNS]),
         {ok, Key} = curve_tun:peer_public_key(S),
         ok = curve_tun:close(S)
     end || Host <- [{127,0,0,1}, "127.0.0.1", '127.0.0.1', "db.test", 'DB.test']],
    {error, wrong_server_key} = curve_tun:connect("old.test", Port, [?DNS]),
    {error, not_found} = curve_tun:connect("none.test", Port, [?DNS]),
    {error, not_found} = curve_tun:connect("localhost", Port, [?DNS]),
    {error, badarg} = curve_tun:connect("no host", Port, [?DNS]),
    %% The known servers also apply to keys from elsewhere.
    Known = [?DNS, {known_servers, filename:join(proplists:get_value(priv_dir, Config), "known")}, {first_use, remember}],
    {ok, S1} = curve_tun:connect("db.test", Port, Known),
    ok = curve_tun:close(S1),
    {ok, S2} = curve_tun:connect("db.test", Port, [{first_use, refuse} | lists:keydelete(first_use, 1, Known)]),
    ok = curve_tun:close(S2),
    ok = inet_db:del_host({127,0,0,1}),
    ok = inet_db:set_lookup(Lookup).

answers_that_are_not_proven_are_refused(Config) ->
    Key = key(Config),
    Lines = [record(client({127,0,0,1}), Key), record(server({127,0,0,1}), Key)],
    DNS = name_server("unproven", Config, [{"test", nsec, "plain NS ns\n"}, {"plain.test", 'not', Lines},
                                           {"island", 'not', Lines}]),
    [begin
         Settings = curve_tun_test_dns:settings(Zone, DNS),
         start(Config, [{allow_unvalidated, Allow} | Settings]),
         Listening = {Listener, Port} = curve_tun_test:listen([?DNS]),
         ?assertEqual(Comes, from({127,0,0,1}, Listening, Config)),
         spawn_link(fun() -> curve_tun:accept(Listener, infinity) end),
         case Allow of
             true -> {ok, _} = curve_tun:connect({127,0,0,1}, Port, [?DNS]);
             false -> ?assertEqual(Comes, curve_tun:connect({127,0,0,1}, Port, [?DNS]))
         end,
         curve_tun_test:stop()
     end || Zone <- ["plain.test", "island"], {Allow, Comes} <- [{false, {error, not_validated}}, {true, ok}]].

%% While the names of twenty clients are looked up without an answer, everybody else is served; then
%% those clients are.
names_that_wait_hold_up_nobody(Config) ->
    Key = key(Config),
    Numbers = lists:seq(101, 120),
    Lines = [record(client({127,0,0,N}), Key) || N <- [1 | Numbers]],
    DNS = name_server("slow", Config, [{"test", nsec, Lines}]),
    {Gate, Slow} = curve_tun_test_dns:gate(DNS, [<<"_curve_tun">> | [integer_to_binary(N) || N <- Numbers]]),
    start(Config, curve_tun_test_dns:settings("test", Slow)),
    {Listener, Port} = curve_tun_test:listen([?DNS, {handshake_timeout, ?PATIENCE}]),
    Test = self(),
    spawn_link(fun() -> accept_all(Listener, Test) end),
    Connect = fun(N) ->
                  {ok, S} = curve_tun:connect({127,0,0,1}, Port, [{key, Key}, {ip, {127,0,0,N}}], ?PATIENCE),
                  S
              end,
    Waiting = [Connect(N) || N <- Numbers],
    curve_tun_test:until(fun() -> curve_tun_test_dns:held(Gate) =:= length(Numbers) end, ?PATIENCE),
    %% Another client of the same listener, one of another registry, and file operations of the
    %% node.
    Quick = Connect(1),
    receive {came, First} -> {127,0,0,1} = First end,
    curve_tun_test:stop_pair(curve_tun_test:pair()),
    Files = [filename:join(proplists:get_value(priv_dir, Config), "file" ++ integer_to_list(N)) || N <- lists:seq(1, 20)],
    [ok = file:write_file(File, <<"written">>) || File <- Files],
    receive {came, Early} -> ct:fail({early, Early}) after 0 -> ok end,
    %% A program's own question waits as well, but only until its timeout.
    {error, timeout} = curve_tun:connect({127,0,0,101}, Port, [?DNS], 100),
    ok = curve_tun_test_dns:open(Gate),
    Came = [receive {came, Address} -> Address after ?PATIENCE -> ct:fail(nobody_came) end || _ <- Numbers],
    ?assertEqual([{127,0,0,N} || N <- Numbers], lists:sort(Came)),
    [ok = curve_tun:close(S) || S <- [Quick | Waiting]].

a_silent_name_server_refuses_those_it_is_asked_about(Config) ->
    {ok, Udp} = gen_udp:open(0, [{ip, {127,0,0,1}}, {active, false}]),
    {ok, Silent} = inet:port(Udp),
    start(Config, [{zone, "test"}, {servers, [{{127,0,0,1}, Silent}]}, {timeout_ms, 1000}, {allow_unvalidated, true}]),
    Listening = {_, Port} = curve_tun_test:listen([?DNS]),
    {error, registry_failed} = from({127,0,0,1}, Listening, Config),
    {error, timeout} = curve_tun:connect({127,0,0,1}, Port, [?DNS]),
    {error, timeout} = curve_tun_dns_registry:lookup({192,0,2,1}),
    false = curve_tun_dns_registry:verify({127,0,0,1}, key(Config)),
    ok = gen_udp:close(Udp),
    {error, Reason} = curve_tun_dns_registry:lookup({192,0,2,2}),
    true = lists:member(Reason, [registry_failed, timeout]).

%% Callers get an answer, even when the registry ends.
a_question_ends_with_the_application(Config) ->
    {ok, Udp} = gen_udp:open(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
    {ok, Silent} = inet:port(Udp),
    start(Config, [{zone, "test"}, {servers, [{{127,0,0,1}, Silent}]}, {timeout_ms, 3600000}]),
    {Pid, Ref} = spawn_monitor(fun() -> exit(curve_tun_dns_registry:lookup({192,0,2,1})) end),
    {ok, _} = gen_udp:recv(Udp, 0, ?PATIENCE),
    curve_tun_test:stop(),
    %% The registry is released once nothing refers to it.
    curve_tun_test:until(fun() ->
                             [garbage_collect(P) || P <- processes(), P =/= Pid],
                             not is_process_alive(Pid)
                         end, ?PATIENCE),
    receive {'DOWN', Ref, process, Pid, Said} -> {error, registry_failed} = Said end.

what_cannot_be_used_stops_the_start(Config) ->
    Good = [{zone, "test"}, {servers, [{{127,0,0,1}, 9}]}],
    [begin
         ok = logger:set_primary_config(level, none),
         ok = application:load(curve_tun),
         _ = [ok = application:set_env(curve_tun, Name, Value)
              || {Name, Value} <- [{vault_file, proplists:get_value(vault_file, Config)}, {registry_dns, Settings},
                                   {registry_providers, [curve_tun_dns_registry]}], Value =/= none],
         {error, {curve_tun, Why}} = application:ensure_all_started(curve_tun),
         curve_tun_test:stop(),
         ok = logger:set_primary_config(level, notice),
         {{shutdown, {failed_to_start_child, curve_tun_dns_registry, Reason}}, _} = Why,
         ?assertEqual({Settings, Expected}, {Settings, Reason})
     end || {Expected, Settings} <-
             [{{missing_option, zone}, none}, {{missing_option, zone}, []}, {{bad_option, atom}, atom},
              {{bad_option, tail}, [{zone, "test"} | tail]}, {{bad_option, {zone, 1}}, [{zone, 1}]},
              {{bad_option, {zone, [16#d800]}}, [{zone, [16#d800]}]}, {badarg, [{zone, "a..b"}]},
              {{bad_option, {servers, [{"127.0.0.1", 53}]}}, [{servers, [{"127.0.0.1", 53}]} | Good]},
              {{bad_option, {servers, [{{127,0,0,1}, 0}]}}, [{servers, [{{127,0,0,1}, 0}]} | Good]},
              {{bad_option, {timeout, 5}}, [{timeout, 5} | Good]}, {badarg, Good ++ [{timeout_ms, 0}]},
              {badarg, Good ++ [{timeout_ms, 3600001}]}, {{bad_option, {ttl_max, -1}}, Good ++ [{ttl_max, -1}]},
              {{bad_option, {allow_unvalidated, 1}}, Good ++ [{allow_unvalidated, 1}]},
              {badarg, Good ++ [{trust_anchors, "what is this"}]},
              {badarg, Good ++ [{trust_anchors, ""}]},
              {badarg, Good ++ [{trust_anchors, <<>>}]}]],
    start(Config, Good).
