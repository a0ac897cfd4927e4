%%% Nothing wakes up without a reason: neither a waiting process nor the process it waits for runs
%%% before something happens.
-module(curve_tun_idle_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, listen/0, listen/1, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [who_waits_does_not_run, who_waits_is_in_no_code_of_ours, who_waits_goes_on_in_new_code, who_waits_is_told_of_the_end,
     a_client_that_comes_when_nobody_waits_keeps_its_time].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% Waits in a call in a separate process, which reports the result.
waits(Call) ->
    Test = self(),
    Pid = spawn(fun() -> Test ! {self(), Call()}, receive never -> ok end end),
    until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
    Pid.

said(Pid) ->
    receive {Pid, Said} -> Said after 10000 -> ct:fail({says_nothing, erlang:process_info(Pid, current_stacktrace)}) end.

pid({curve_tun_socket, Pid, _, _}) -> Pid;
pid({curve_tun_listen_socket, Pid}) -> Pid.

%% Every kind of wait without a timeout, what it waits for, and how it is ended.
waiters() ->
    {Client, Server} = pair(),
    {Accepting, _} = listen(),
    {Taking, _} = listen(),
    {Slow, Port} = listen([{handshake_timeout, infinity}]),
    Tcp = curve_tun_test:raw_connect(Port),
    {ok, Begun} = curve_tun:transport_accept(Slow),
    Pids = [waits(Call) || Call <- [fun() -> curve_tun:recv(Server, infinity) end,
                                    fun() -> curve_tun:recv(Server, 0, infinity) end,
                                    fun() -> curve_tun:recv(Server, 3600000) end,
                                    fun() -> curve_tun:accept(Accepting, infinity) end,
                                    fun() -> curve_tun:accept(Accepting, 3600000) end,
                                    fun() -> curve_tun:transport_accept(Taking, infinity) end,
                                    fun() -> curve_tun:handshake(Begun, infinity) end]],
    End = fun() -> gen_tcp:close(Tcp), [ok = curve_tun:close(S) || S <- [Client, Accepting, Taking, Slow]] end,
    {Pids, [pid(S) || S <- [Client, Server, Accepting, Taking, Slow, Begun]], End}.

%% Measured over the time that another receiver needs to time out: three seconds.
who_waits_does_not_run(_) ->
    {Waiting, For, End} = waiters(),
    {Client, Server} = pair(),
    Connections = [Pid || Pid <- For, is_connected(Pid)],
    until(fun() -> lists:all(fun(Pid) -> process_info(Pid, current_function) =:= {current_function, {erlang, hibernate, 3}} end,
                             Connections) end),
    Linked = [Pid || Listener <- For -- Connections, {links, Links} <- [process_info(Listener, links)], Pid <- Links,
                     is_pid(Pid), Pid =/= whereis(curve_tun_listener_sup), Pid =/= whereis(curve_tun_connection_sup)],
    Named = [whereis(Name) || Name <- [curve_tun_fair_queue, curve_tun_monitor, curve_tun_vault_nif, curve_tun_simple_registry]],
    Traced = lists:usort(Waiting ++ For ++ Linked ++ Named),
    [1 = erlang:trace(Pid, true, [running]) || Pid <- Traced],
    {error, timeout} = curve_tun:recv(Server, 3000),
    [1 = erlang:trace(Pid, false, [running]) || Pid <- Traced],
    Ran = fun Ran() -> receive {trace, Pid, in, What} -> [{Pid, What} | Ran()]; {trace, _, _, _} -> Ran() after 0 -> [] end end,
    ?assertEqual([], Ran()),
    End(),
    curve_tun_test:stop_pair({Client, Server}),
    [_ = said(Pid) || Pid <- Waiting].

is_connected(Pid) ->
    case sys:get_state(Pid) of
        {connected, _} -> true;
        _ -> false
    end.

who_waits_is_in_no_code_of_ours(_) ->
    {Waiting, _, End} = waiters(),
    [begin
         {current_stacktrace, Stack} = process_info(Pid, current_stacktrace),
         ?assertEqual([], [Frame || {Module, _, _, _} = Frame <- Stack, Module =/= ?MODULE,
                                    lists:prefix("curve_tun", atom_to_list(Module))])
     end || Pid <- Waiting],
    End(),
    [_ = said(Pid) || Pid <- Waiting].

%% Reloaded twice, so that processes in the old code would be killed; then each gets what it waits
%% for.
who_waits_goes_on_in_new_code(_) ->
    {Client, Server} = pair(),
    {Listener, Port} = listen(),
    Receiving = [waits(Call) || Call <- [fun() -> curve_tun:recv(Server, infinity) end,
                                         fun() -> curve_tun:recv(Server, 0, infinity) end]],
    Accepting = waits(fun() -> curve_tun:accept(Listener, infinity) end),
    {ok, Modules} = application:get_key(curve_tun, modules),
    [begin
         _ = code:purge(Module),
         {module, Module} = code:load_file(Module)
     end || _ <- [1, 2, 3], Module <- Modules -- [curve_tun_nif]],
    ok = curve_tun:send_many(Client, [<<"1">>, <<"2">>]),
    ?assertEqual([<<"1">>, {ok, <<"2">>}], [said(Pid) || Pid <- Receiving]),
    {ok, New} = curve_tun_test:connect(Port),
    {ok, _} = said(Accepting),
    [ok = curve_tun:close(S) || S <- [New, Client, Listener]].

who_waits_is_told_of_the_end(_) ->
    {Waiting, For, _} = waiters(),
    [exit(Pid, kill) || Pid <- For],
    [?assertEqual({error, closed}, said(Pid)) || Pid <- Waiting].

%% It is taken from the backlog for a process that has left, and waits for the next one, for longer
%% than its handshake may take.
a_client_that_comes_when_nobody_waits_keeps_its_time(_) ->
    {Listener, Port} = listen([{handshake_timeout, 1000}]),
    Gone = waits(fun() -> curve_tun:accept(Listener, infinity) end),
    exit(Gone, kill),
    Test = self(),
    {ok, Key} = curve_tun:public_key(),
    spawn_link(fun() ->
                   Options = [{key, Key}, {handshake_timeout, infinity}],
                   Test ! {connected, curve_tun:connect({127,0,0,1}, Port, Options, infinity)},
                   receive never -> ok end
               end),
    {Client, Server} = pair(),
    {error, timeout} = curve_tun:recv(Server, 1500),
    {ok, _} = curve_tun:accept(Listener, 10000),
    receive {connected, {ok, _}} -> ok end,
    curve_tun_test:stop_pair({Client, Server}),
    ok = curve_tun:close(Listener).
