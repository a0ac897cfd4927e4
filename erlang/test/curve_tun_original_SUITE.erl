%%% The original's test programme, with the original's calls and results: a sender and a receiver
%%% that know only each other's port and key, three messages, random sleeps on each side, thirty
%%% shuffled repetitions.
%%%
%%% It runs with the original's vault, whose key pair is public, at both ends.
-module(curve_tun_original_SUITE).

-compile([export_all, nowarn_export_all]).

-define(KEY, <<81, 13, 101, 52, 29, 109, 136, 196, 86, 91, 34, 91, 3, 19, 150, 3, 215, 43, 210, 9, 242, 146, 119, 188,
               153, 245, 78, 232, 94, 113, 37, 47>>).

suite() -> [{timetrap, {seconds, 30}}].

groups() -> [{programme, [shuffle, {repeat, 30}], [three_messages, the_vault, the_registry]}].

all() -> [{group, programme}].

init_per_suite(Config) ->
    ok = logger:set_primary_config(level, error),
    _ = application:load(curve_tun),
    ok = application:set_env(curve_tun, vault_providers, [curve_tun_vault_dummy]),
    {ok, Started} = application:ensure_all_started(curve_tun),
    [{started, Started} | Config].

end_per_suite(Config) ->
    [ok = application:stop(Application) || Application <- lists:reverse(proplists:get_value(started, Config))],
    ok = application:unload(curve_tun),
    logger:set_primary_config(level, notice).

%% The receiver only listens after a while, but the sender is given the port by then.
three_messages(_) ->
    Test = self(),
    Receiver = spawn_monitor(fun() -> exit({result, receiver(Test)}) end),
    Port = receive {port, P} -> P end,
    Sender = spawn_monitor(fun() -> exit({result, sender(Port)}) end),
    [receive {'DOWN', Ref, process, Pid, Result} -> {result, ok} = Result end || {Pid, Ref} <- [Sender, Receiver]].

sender(Port) ->
    rest(),
    {ok, Socket} = curve_tun:connect("localhost", Port, [{key, ?KEY}]),
    [begin rest(), ok = curve_tun:send(Socket, Message) end || Message <- [<<"1">>, <<"2">>, <<"3">>]],
    rest(),
    ok = curve_tun:close(Socket).

receiver(Test) ->
    ok = curve_tun_simple_registry:register({127,0,0,1}, ?KEY),
    {ok, Listener} = curve_tun:listen(0, [{reuseaddr, true}]),
    {ok, {_, Port}} = curve_tun:sockname(Listener),
    Test ! {port, Port},
    rest(),
    {ok, Socket} = curve_tun:accept(Listener),
    [begin rest(), Message = curve_tun:recv(Socket) end || Message <- [<<"1">>, <<"2">>, <<"3">>]],
    rest(),
    ok = curve_tun:close(Socket).

rest() ->
    timer:sleep(rand:uniform(100)).

the_vault(_) ->
    ?KEY = curve_tun_vault_dummy:public_key(),
    <<_:16/binary>> = Nonce = curve_tun_vault_dummy:safe_nonce(),
    Box = curve_tun_vault_dummy:box(<<"message">>, <<"CurveCPV", Nonce/binary>>, ?KEY),
    {ok, <<"message">>} = curve_tun_vault_dummy:box_open(Box, <<"CurveCPV", Nonce/binary>>, ?KEY),
    {error, failed_verification} = curve_tun_vault_dummy:box_open(<<0, Box/binary>>, <<"CurveCPV", Nonce/binary>>, ?KEY),
    %% On purpose: no secret enters the heap.
    false = erlang:function_exported(curve_tun_cookie, recent_keys, 0).

the_registry(_) ->
    ok = curve_tun_simple_registry:register({192,0,2,1}, ?KEY),
    {ok, ?KEY} = curve_tun_simple_registry:lookup({192,0,2,1}),
    {error, not_found} = curve_tun_simple_registry:lookup({192,0,2,2}),
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127,0,0,1}}]),
    {ok, Port} = inet:port(Listen),
    ok = curve_tun_simple_registry:register({127,0,0,1}, ?KEY),
    {ok, Tcp} = gen_tcp:connect({127,0,0,1}, Port, []),
    true = curve_tun_simple_registry:verify(Tcp, ?KEY),
    false = curve_tun_simple_registry:verify(Tcp, <<0:256>>),
    gen_tcp:close(Tcp),
    false = curve_tun_simple_registry:verify(Tcp, ?KEY),
    gen_tcp:close(Listen).
