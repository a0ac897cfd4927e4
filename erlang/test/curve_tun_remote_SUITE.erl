%%% Callers on another node than the socket's: their calls run on the socket's node, and their
%%% timeouts hold.
-module(curve_tun_remote_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(PATIENCE, 60000).

suite() -> [{timetrap, {seconds, 180}}].

all() -> [accept_takes_as_long_as_it_is_told, a_socket_from_afar, a_stream_from_afar, the_other_node_is_gone].

%% Starts two nodes connected to each other; the application runs on the older one. They have a
%% separate epmd.
init_per_suite(Config) ->
    {Epmd, EpmdPort} = epmd(),
    Path = [Dir || Dir <- code:get_path(), filelib:is_regular(filename:join(Dir, "curve_tun.beam"))
                       orelse filelib:is_regular(filename:join(Dir, atom_to_list(?MODULE) ++ ".beam"))],
    Start = fun(Name) ->
                {ok, Peer, Node} =
                    peer:start(#{name => Name, host => "127.0.0.1", longnames => true, connection => standard_io,
                                 env => [{"ERL_EPMD_PORT", EpmdPort}],
                                 args => ["-setcookie", "curve_tun_remote" | lists:append([["-pa", D] || D <- Path])]}),
                {Peer, Node}
            end,
    {Old, OldNode} = Start("curve_tun_old"),
    timer:sleep(3000),
    {Young, _} = Start("curve_tun_young"),
    ok = peer:call(Old, curve_tun_test, start, []),
    {ok, _} = peer:call(Old, application, ensure_all_started, [curve_tun]),
    pong = peer:call(Young, net_adm, ping, [OldNode]),
    [{old, Old}, {old_node, OldNode}, {young, Young}, {epmd, Epmd} | Config].

end_per_suite(Config) ->
    [catch peer:stop(proplists:get_value(Which, Config)) || Which <- [young, old]],
    _ = os:cmd("kill " ++ proplists:get_value(epmd, Config)),
    ok.

init_per_testcase(_, Config) -> Config.
end_per_testcase(_, _) -> ok.

%% Starts an epmd on a free port.
epmd() ->
    {ok, Free} = gen_tcp:listen(0, [{ip, {127,0,0,1}}]),
    {ok, Port} = inet:port(Free),
    ok = gen_tcp:close(Free),
    Program = os:find_executable("epmd"),
    true = is_list(Program),
    Epmd = open_port({spawn_executable, Program}, [{args, ["-port", integer_to_list(Port), "-address", "127.0.0.1"]}]),
    {os_pid, Pid} = erlang:port_info(Epmd, os_pid),
    Names = Program ++ " -port " ++ integer_to_list(Port) ++ " -names",
    curve_tun_test:until(fun() -> string:find(os:cmd(Names), "up and running") =/= nomatch end),
    {integer_to_list(Pid), integer_to_list(Port)}.

%% Runs a function of this module in a separate process on a node.
on(Which, Function, Arguments, Config) ->
    peer:call(proplists:get_value(Which, Config), ?MODULE, Function, Arguments, ?PATIENCE).

%% On the old node: a listener with a permanent owner, and its port.
listener() ->
    listener([]).

listener(Options) ->
    Test = self(),
    _ = spawn(fun() -> Test ! {listening, curve_tun_test:listen(Options)}, receive never -> ok end end),
    receive {listening, Listening} -> Listening end.

%% On the old node: a client that echoes what it receives, until it is closed.
echo(Port) ->
    echo(Port, []).

echo(Port, Options) ->
    _ = spawn(fun() ->
            {ok, Socket} = curve_tun_test:connect(Port, Options),
            (fun Loop() ->
                case curve_tun:recv(Socket, infinity) of
                    Message when is_binary(Message) -> ok = curve_tun:send(Socket, Message), Loop();
                    {error, _} -> curve_tun:shutdown(Socket, write)
                end
            end)()
        end),
    ok.

accept_takes_as_long_as_it_is_told(Config) ->
    {Listener, Port} = on(old, listener, [], Config),
    [begin
         {Took, Result} = on(young, timed, [F, [Listener, 400]], Config),
         ?assertEqual({F, {error, timeout}}, {F, Result}),
         ?assert(Took >= 400, {F, Took})
     end || F <- [accept, transport_accept]],
    %% A handshake with a silent client.
    {Took, Result} = on(young, silent, [Listener, Port, 400], Config),
    ?assertEqual({error, timeout}, Result),
    ?assert(Took >= 400, Took),
    %% From the old node to the young one the timeout would be longer by the difference between
    %% their starts.
    ok = on(young, with_application, [], Config),
    {Listener2, _} = on(young, listener, [], Config),
    ?assertMatch({_, {error, timeout}}, on(old, timed, [accept, [Listener2, 0]], Config)),
    {Took2, {error, timeout}} = on(old, timed, [accept, [Listener2, 400]], Config),
    ?assert(Took2 >= 400 andalso Took2 < 3000, Took2).

with_application() ->
    curve_tun_test:start().

timed(Function, Arguments) ->
    {Microseconds, Result} = timer:tc(curve_tun, Function, Arguments),
    {Microseconds div 1000, Result}.

silent(Listener, Port, Timeout) ->
    {ok, Tcp} = gen_tcp:connect({127,0,0,1}, Port, []),
    {ok, Socket} = curve_tun:transport_accept(Listener, ?PATIENCE),
    Result = timed(handshake, [Socket, Timeout]),
    ok = gen_tcp:close(Tcp),
    Result.

a_socket_from_afar(Config) ->
    {Listener, Port} = on(old, listener, [], Config),
    [begin
         ok = on(old, echo, [Port], Config),
         ok = on(young, use, [Listener, How, Port], Config)
     end || How <- [accept, transport]].

use(Listener, How, Port) ->
    {ok, {{127,0,0,1}, Port}} = curve_tun:sockname(Listener),
    {ok, _} = curve_tun:getstat(Listener),
    {ok, Socket} = case How of
                       accept -> curve_tun:accept(Listener, ?PATIENCE);
                       transport ->
                           {ok, Transport} = curve_tun:transport_accept(Listener, ?PATIENCE),
                           curve_tun:handshake(Transport, ?PATIENCE)
                   end,
    true = node(element(2, Socket)) =/= node(),
    ok = curve_tun:send(Socket, <<"1">>),
    <<"1">> = curve_tun:recv(Socket, ?PATIENCE),
    ok = curve_tun:send_many(Socket, [<<"2">>, "3"]),
    [<<"2">>, <<"3">>] = [curve_tun:recv(Socket, ?PATIENCE) || _ <- [1, 2]],
    {error, timeout} = curve_tun:recv(Socket, 0),
    {ok, <<_:32/binary>> = Key} = curve_tun:peer_public_key(Socket),
    {ok, Information} = curve_tun:connection_information(Socket),
    [{_, connected}, {_, server}, {_, Key}] = [lists:keyfind(K, 1, Information) || K <- [state, role, peer_public_key]],
    {ok, {{127,0,0,1}, _}} = curve_tun:peername(Socket),
    {ok, {{127,0,0,1}, Port}} = curve_tun:sockname(Socket),
    {ok, [{recv_oct, Octets}]} = {ok, [S || {recv_oct, _} = S <- element(2, curve_tun:getstat(Socket))]},
    true = Octets > 0,
    ok = curve_tun:setopts(Socket, [{nodelay, false}, {active, once}]),
    {ok, [{active, once}, {nodelay, false}]} = curve_tun:getopts(Socket, [active, nodelay]),
    {error, {bad_option, {no_such_option, 1}}} = curve_tun:setopts(Socket, [{no_such_option, 1}]),
    ok = curve_tun:send(Socket, <<"4">>),
    receive {curve_tun, Socket, <<"4">>} -> ok end,
    Test = self(),
    Next = spawn_link(fun() ->
               receive go -> ok end,
               ok = curve_tun:send(Socket, <<"5">>),
               <<"5">> = curve_tun:recv(Socket, ?PATIENCE),
               ok = curve_tun:shutdown(Socket, write),
               ok = curve_tun:close(Socket),
               Test ! {self(), done}
           end),
    ok = curve_tun:controlling_process(Socket, Next),
    {error, not_owner} = curve_tun:controlling_process(Socket, self()),
    Next ! go,
    receive {Next, done} -> ok end,
    [{error, closed} = Result || Result <- [curve_tun:recv(Socket), curve_tun:send(Socket, <<>>), curve_tun:peername(Socket),
                                            curve_tun:getopts(Socket, [nodelay]), curve_tun:peer_public_key(Socket)]],
    ok.

a_stream_from_afar(Config) ->
    {Listener, Port} = on(old, listener, [[{packet, 4}]], Config),
    ok = on(old, echo, [Port, [{packet, 4}]], Config),
    ok = on(young, use_stream, [Listener], Config).

use_stream(Listener) ->
    {ok, Socket} = curve_tun:accept(Listener, ?PATIENCE),
    true = node(element(2, Socket)) =/= node(),
    [begin
         Message = binary:copy(<<"m">>, Size),
         ok = curve_tun:send(Socket, Message),
         {ok, Message} = curve_tun:recv(Socket, 0, ?PATIENCE)
     end || Size <- [0, 1, 65503, 65504, 1000000]],
    {error, emsgsize} = curve_tun:send(Socket, binary:copy(<<"m">>, 16#1000001)),
    {error, badarg} = curve_tun:send(Socket, [binary:copy(<<"m">>, 70000) | tail]),
    ok = curve_tun:shutdown(Socket, write),
    {error, closed} = curve_tun:recv(Socket, ?PATIENCE),
    ok = curve_tun:close(Socket).

%% Its sockets are closed, and nobody waits.
the_other_node_is_gone(Config) ->
    {Listener, Port} = on(old, listener, [], Config),
    ok = on(old, echo, [Port], Config),
    Caller = spawn_monitor(fun() -> exit(on(young, wait_for_the_end, [Listener], Config)) end),
    Young = proplists:get_value(young, Config),
    curve_tun_test:until(fun() -> peer:call(Young, erlang, whereis, [waits_for_the_end]) =/= undefined end),
    ok = peer:stop(proplists:get_value(old, Config)),
    {Pid, Ref} = Caller,
    receive {'DOWN', Ref, process, Pid, Result} -> ?assertEqual(ok, Result) end.

wait_for_the_end(Listener) ->
    {ok, Socket} = curve_tun:accept(Listener, ?PATIENCE),
    true = register(waits_for_the_end, self()),
    {error, closed} = curve_tun:recv(Socket, ?PATIENCE),
    [{error, closed} = Result || Result <- [curve_tun:accept(Listener), curve_tun:recv(Socket), curve_tun:send(Socket, <<>>),
                                            curve_tun:peername(Socket), curve_tun:getopts(Socket, [nodelay]),
                                            curve_tun:setopts(Socket, [{nodelay, true}]), curve_tun:sockname(Listener),
                                            curve_tun:peer_public_key(Socket), curve_tun:connection_information(Socket)]],
    ok = curve_tun:close(Socket),
    ok = curve_tun:close(Listener),
    ok.
