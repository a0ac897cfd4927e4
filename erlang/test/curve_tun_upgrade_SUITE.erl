%%% Modules reloaded under traffic.
-module(curve_tun_upgrade_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [every_module_but_the_nif_is_reloaded_under_traffic, reloading_the_nif_fails_and_traffic_goes_on].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().

modules() ->
    {ok, Modules} = application:get_key(curve_tun, modules),
    Modules.

%% Runs `Do' while messages go back and forth, none of which may be lost.
under_traffic(Do) ->
    Test = self(),
    {Listener, Port} = curve_tun_test:listen(),
    Pid = spawn_link(fun() ->
        Acceptor = spawn_link(fun Loop() ->
                       case curve_tun:accept(Listener, infinity) of
                           {ok, S} -> ok = curve_tun:controlling_process(S, spawn_link(fun() -> echo(S) end)), Loop();
                           {error, closed} -> ok
                       end
                   end),
        {ok, Client} = curve_tun_test:connect(Port),
        Test ! started,
        Rounds = ask(Client, 0),
        unlink(Acceptor),
        Test ! {rounds, Rounds}
    end),
    receive started -> ok end,
    Do(),
    %% New connections work, too.
    {ok, New} = curve_tun_test:connect(Port),
    ok = curve_tun:send(New, <<"new">>),
    <<"new">> = curve_tun:recv(New),
    Pid ! stop,
    receive {rounds, Rounds} -> ?assert(Rounds > 0) end,
    ok = curve_tun:close(Listener).

echo(S) ->
    case curve_tun:recv(S, infinity) of
        {error, closed} -> ok;
        Message -> ok = curve_tun:send(S, Message), echo(S)
    end.

ask(Client, N) ->
    receive
        stop -> N
    after 0 ->
        ok = curve_tun:send(Client, <<N:64>>),
        <<N:64>> = curve_tun:recv(Client),
        ask(Client, N + 1)
    end.

%% Twice, so that a process still running code from before the first reload would be noticed: it
%% would be killed.
every_module_but_the_nif_is_reloaded_under_traffic(_) ->
    under_traffic(fun() ->
        [begin
             [begin
                  ?assert(code:soft_purge(Module)),
                  {module, Module} = code:load_file(Module)
              end || Module <- modules() -- [curve_tun_nif]],
             timer:sleep(1300)
         end || _ <- [1, 2, 3]]
    end).

reloading_the_nif_fails_and_traffic_goes_on(_) ->
    Id = curve_tun_test:forward_log(critical),
    under_traffic(fun() ->
        [begin
             true = code:soft_purge(curve_tun_nif),
             {error, on_load_failure} = code:load_file(curve_tun_nif),
             timer:sleep(50)
         end || _ <- [1, 2, 3]]
    end),
    ok = logger:remove_handler(Id),
    ok = logger:set_primary_config(level, notice).
