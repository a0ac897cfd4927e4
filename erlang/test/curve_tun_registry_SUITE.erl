%%% The registry in memory and in a file, and what registries are given.
-module(curve_tun_registry_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/2, stop_pair/1, connect/1, listen/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [an_empty_registry_lets_nobody_in, a_change_is_seen_by_the_next_handshake, the_registry_knows_networks,
     a_registry_is_told_of_the_listener, a_registry_in_a_file, a_registry_file_is_read_by_nobody_who_waits].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% One registry decides differently for several listeners.
a_registry_is_told_of_the_listener(_) ->
    {ok, Key} = curve_tun:public_key(),
    Test = self(),
    curve_tun_test_servers:behave(fun(Socket, K, Candidate) ->
                                      {ok, {Address, _}} = inet:peername(Socket),
                                      Test ! {asked, K, Address, Candidate},
                                      maps:get(listener, Candidate) =/= <<"back">>
                                  end),
    [begin
         {Listener, Port} = listen([{registry, curve_tun_test_servers} | Options]),
         spawn_link(fun() -> {ok, S} = connect(Port), curve_tun:recv(S) end),
         {ok, Socket} = curve_tun:transport_accept(Listener),
         ?assertMatch({Result, _}, curve_tun:handshake(Socket, 10000)),
         receive
             {asked, K, Address, Candidate} ->
                 ?assertEqual({Key, {127,0,0,1}, #{address => {127,0,0,1}, listener => Name}}, {K, Address, Candidate})
         end,
         ok = curve_tun:close(Listener)
     end || {Result, Name, Options} <- [{ok, <<>>, []}, {ok, <<"front">>, [{listener, "front"}]},
                                        {error, <<"back">>, [{listener, <<"back">>}]},
                                        {ok, <<"caf", 195, 169>>, [{listener, ["caf", 233]}]}]],
    [{error, {bad_option, {listener, Name}}} = curve_tun:listen(0, [{listener, Name}])
     || Name <- [1, name, [16#d800], "a\n", lists:duplicate(256, $a)]].

an_empty_registry_lets_nobody_in(_) ->
    {ok, Key} = curve_tun:public_key(),
    ok = curve_tun_simple_registry:unregister({127,0,0,1}, Key),
    {error, not_found} = curve_tun_simple_registry:unregister({127,0,0,1}, Key),
    {error, not_found} = curve_tun_simple_registry:lookup({127,0,0,1}),
    {Listener, Port} = listen([]),
    spawn_link(fun() -> curve_tun:accept(Listener, 10000) end),
    {ok, Client} = connect(Port),
    {error, closed} = curve_tun:recv(Client),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    ok = curve_tun:close(Listener).

a_change_is_seen_by_the_next_handshake(_) ->
    {ok, Key} = curve_tun:public_key(),
    {Listener, Port} = listen([]),
    Test = self(),
    Acceptor = spawn_link(fun() -> [Test ! {accepted, curve_tun:accept(Listener, 20000)} || _ <- [1, 2]], receive never -> ok end end),
    {ok, First} = connect(Port),
    receive {accepted, {ok, Server}} -> ok end,
    ok = curve_tun_simple_registry:unregister({127,0,0,1}, Key),
    {ok, Second} = connect(Port),
    {error, closed} = curve_tun:recv(Second),
    %% The existing connection stays.
    ok = curve_tun:send(First, <<"1">>),
    <<"1">> = curve_tun:recv(Server),
    ok = curve_tun_simple_registry:register(<<"127.0.0.0/8">>, Key),
    {ok, Third} = connect(Port),
    receive {accepted, {ok, _}} -> ok end,
    ok = curve_tun_simple_registry:unregister(<<"127.0.0.0/8">>, Key),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    unlink(Acceptor),
    [ok = curve_tun:close(S) || S <- [First, Third, Listener]].

the_registry_knows_networks(_) ->
    [A, B, C] = [<<N:256>> || N <- [101, 102, 103]],
    ok = curve_tun_simple_registry:register({{10,0,0,0}, 8}, A),
    ok = curve_tun_simple_registry:register(<<"10.1.0.0/16">>, B),
    ok = curve_tun_simple_registry:register({10,1,2,3}, C),
    ok = curve_tun_simple_registry:register({10,1,2,3}, A),
    {ok, A} = curve_tun_simple_registry:lookup({10,9,9,9}),
    {ok, B} = curve_tun_simple_registry:lookup({10,1,9,9}),
    {ok, A} = curve_tun_simple_registry:lookup({10,1,2,3}),
    {ok, A} = curve_tun_simple_registry:lookup({0,0,0,0,0,16#ffff,16#0a01,16#0203}),
    {error, not_found} = curve_tun_simple_registry:lookup({11,0,0,1}),
    true = curve_tun_simple_registry:verify({10,1,2,3}, A),
    false = curve_tun_simple_registry:verify({10,1,2,3}, B),
    false = curve_tun_simple_registry:verify({10,1,9,9}, A),
    %% Numbers that only begin like others.
    [{Place, {error, badarg}} = {Place, curve_tun_simple_registry:register(Place, A)}
     || Place <- [{10,0,0,256 + 1}, {10,0,0,-1}, {0,0,0,0,0,0,0,65536 + 1}, {{10,0,0,0}, 256 + 8}, {{10,0,0,256}, 8}]],
    {error, badarg} = curve_tun_simple_registry:lookup({10,9,9,256 + 9}),
    false = curve_tun_simple_registry:verify({10,9,9,256 + 9}, A),
    ok = curve_tun_simple_registry:register(<<"*">>, A),
    true = curve_tun_simple_registry:verify({10,1,9,9}, A),
    ok = curve_tun_simple_registry:register(<<"!">>, A),
    false = curve_tun_simple_registry:verify({10,1,2,3}, A),
    [ok = curve_tun_simple_registry:unregister(P, A) || P <- [<<"*">>, <<"!">>]],
    [ok = curve_tun_simple_registry:unregister(N, K)
     || {N, K} <- [{{{10,0,0,0}, 8}, A}, {<<"10.1.0.0/16">>, B}, {{10,1,2,3}, C}, {{10,1,2,3}, A}]].

%% The file decides, also after changes from outside; an invalid file changes nothing and is
%% reported.
a_registry_in_a_file(Config) ->
    curve_tun_test:stop(),
    File = filename:join(proplists:get_value(priv_dir, Config), "peers"),
    ok = application:load(curve_tun),
    ok = application:set_env(curve_tun, registry_file, File),
    ok = logger:set_primary_config(level, none),
    {error, {curve_tun, Why}} = application:ensure_all_started(curve_tun),
    ok = logger:set_primary_config(level, notice),
    ?assertNotEqual(nomatch, string:find(io_lib:format("~p", [Why]), "enoent")),
    curve_tun_test:stop(),
    Other = <<9:256/little>>,
    ok = file:write_file(File, ["# mine\n10.0.0.0/8 ", curve_tun_nif:public_key_to_text(Other), " the other\n"]),
    ok = curve_tun_test:start([{registry_file, File}]),
    {ok, Key} = curve_tun:public_key(),
    stop_pair(pair([], [])),
    {ok, Other} = curve_tun_simple_registry:lookup({10,1,2,3}),
    true = curve_tun_simple_registry:verify({127,0,0,1}, Key),
    {ok, Before} = file:read_file(File),
    [<<"# mine">>, <<"10.0.0.0/8 ", _/binary>>, <<"127.0.0.1 ", _/binary>>, <<"::1 ", _/binary>>, <<>>] =
        binary:split(Before, <<"\n">>, [global]),
    none = curve_tun_simple_registry:problem(),
    %% Another program denies the key.
    ok = file:write_file(File, ["! ", curve_tun_nif:public_key_to_text(Key), "\n"]),
    {Listener, Port} = listen([]),
    spawn_link(fun() -> curve_tun:accept(Listener, 60000) end),
    {ok, Denied} = connect(Port),
    {error, closed} = curve_tun:recv(Denied, 60000),
    ok = file:write_file(File, "* no key\n"),
    {1, 3, What} = curve_tun_simple_registry:problem(),
    true = byte_size(What) > 0,
    {error, bad_registry_file} = curve_tun_simple_registry:register({127,0,0,1}, Key),
    false = curve_tun_simple_registry:verify({127,0,0,1}, Key),
    ok = file:delete(File),
    enoent = curve_tun_simple_registry:problem(),
    ok = curve_tun:close(Listener),
    curve_tun_test:stop(),
    ok = curve_tun_test:start().

%% A handshake between two ends without sockets, so that each step is visible: the verdict comes
%% from a thread of the NIF.
a_registry_file_is_read_by_nobody_who_waits(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "large"),
    Line = fun(N, Key) ->
               io_lib:format("10.~b.~b.~b ~ts~n",
                             [N bsr 16, (N bsr 8) band 255, N band 255, curve_tun:public_key_to_text(Key)])
           end,
    Large = [Line(N, <<9:256/little>>) || N <- lists:seq(1, 20000)],
    ok = file:write_file(File, Large),
    {ok, Registry} = curve_tun_nif:registry_open_file(list_to_binary(File)),
    {ok, Vault} = curve_tun_nif:vault_generate(),
    {ok, Server} = curve_tun_nif:server_new(Vault, Registry, 10, 0, <<>>, 0),
    Key = curve_tun_nif:vault_public_key(Vault),
    Ref = make_ref(),
    Verdict = fun() ->
                  [Ours, Theirs] = [curve_tun_nif:connection_new() || _ <- [1, 2]],
                  {ok, []} = curve_tun_nif:begin_server(Ours, Server, self(), {10,0,0,1}),
                  {ok, Hello} = curve_tun_nif:begin_client(Theirs, Vault, Key),
                  {ok, accepting, Cookie, <<>>, none} = curve_tun_nif:handshake(Ours, Hello),
                  {ok, connected, Initiate, <<>>, none} = curve_tun_nif:handshake(Theirs, Cookie),
                  {ok, accepting, <<>>, <<>>, ask} = curve_tun_nif:handshake(Ours, Initiate),
                  later = curve_tun_nif:ask(Ours, Ref),
                  receive {Ref, answered} -> curve_tun_nif:answer(Ours, answered) end
              end,
    {error, unknown_peer} = Verdict(),
    %% The decision waits until the change has been read.
    ok = file:write_file(File, [Large, Line(1, Key)]),
    {ok, connected, <<>>, <<>>, none} = Verdict(),
    %% There is no request, and nothing to answer it.
    End = curve_tun_nif:connection_new(),
    {error, closed} = curve_tun_nif:ask(End, Ref),
    {ok, []} = curve_tun_nif:begin_server(End, Server, self(), {10,0,0,1}),
    {error, wrong_state} = curve_tun_nif:ask(End, Ref).
