%%% Processes killed under traffic: the application recovers, nothing leaks, and other connections
%%% continue.
-module(curve_tun_kill_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/0, connect/1, pair/0, pair/1, pair/2, stop_pair/1, sender/1, settled/1, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 90}}].

all() ->
    [connections_under_traffic, named_processes_under_traffic, the_vault_comes_back_with_its_key,
     the_registry_comes_back_with_its_entries, the_cookie_process_comes_back_to_its_listeners,
     the_watch_comes_back_to_its_connections, a_sender_takes_its_connection_along, a_writer_leaves_no_gap,
     a_writer_that_is_stuck_leaves_no_gap, a_listener, the_supervisor_of_connections, the_supervisor_of_listeners,
     the_top_supervisor].

init_per_suite(Config) ->
    ok = logger:set_primary_config(level, critical),
    ok = curve_tun_test:start(),
    Config.
end_per_suite(_) ->
    curve_tun_test:stop(),
    logger:set_primary_config(level, notice).
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% A pair that echoes until told to stop, and then reports how often it did.
traffic() ->
    Test = self(),
    spawn_link(fun() ->
        {Client, Server} = Pair = pair(),
        Test ! {ready, self()},
        Rounds = echo(Client, Server, 0),
        stop_pair(Pair),
        Test ! {rounds, self(), Rounds}
    end).

echo(Client, Server, N) ->
    receive
        stop -> N
    after 0 ->
        ok = curve_tun:send(Client, <<N:32>>),
        <<N:32>> = curve_tun:recv(Server),
        ok = curve_tun:send(Server, <<N:32>>),
        <<N:32>> = curve_tun:recv(Client),
        echo(Client, Server, N + 1)
    end.

%% Runs `Do' beside traffic, which must not be affected.
beside_traffic(Do) ->
    Pids = [traffic() || _ <- lists:seq(1, 3)],
    [receive {ready, Pid} -> ok end || Pid <- Pids],
    Do(),
    timer:sleep(100),
    [Pid ! stop || Pid <- Pids],
    [receive {rounds, Pid, Rounds} -> ?assert(Rounds > 0) end || Pid <- Pids].

kill(Name) ->
    Pid = whereis(Name),
    exit(Pid, kill),
    until(fun() -> case whereis(Name) of undefined -> false; New -> New =/= Pid end end).

works() ->
    {Client, Server} = Pair = pair(),
    ok = curve_tun:send(Client, <<"works">>),
    <<"works">> = curve_tun:recv(Server),
    stop_pair(Pair).

connections_under_traffic(_) ->
    Before = curve_tun_test:count(),
    beside_traffic(fun() ->
        [begin
             {{curve_tun_socket, Pid, _, _}, Server} = pair(),
             spawn_link(fun() -> exit(Pid, kill) end),
             {error, closed} = curve_tun:recv(Server, infinity)
         end || _ <- lists:seq(1, 20)]
    end),
    curve_tun_test:flush(),
    settled(Before).

named_processes_under_traffic(_) ->
    Before = curve_tun_test:count(),
    beside_traffic(fun() ->
        [begin kill(Name), works(), timer:sleep(1500) end
         || Name <- [curve_tun_vault_nif, curve_tun_cookie, curve_tun_simple_registry,
                                                                     curve_tun_monitor]]
    end),
    settled(Before).

the_vault_comes_back_with_its_key(_) ->
    {ok, Key} = curve_tun:public_key(),
    kill(curve_tun_vault_nif),
    {ok, Key} = curve_tun:public_key(),
    works().

the_registry_comes_back_with_its_entries(_) ->
    {ok, Key} = curve_tun_simple_registry:lookup({127,0,0,1}),
    kill(curve_tun_simple_registry),
    {ok, Key} = curve_tun_simple_registry:lookup({127,0,0,1}),
    works().

%% A listener whose keys are no longer rotated would be noticed only minutes later.
the_cookie_process_comes_back_to_its_listeners(_) ->
    {Listener, _} = listen(),
    kill(curve_tun_cookie),
    until(fun() -> map_size(sys:get_state(curve_tun_cookie)) >= 1 end),
    ok = curve_tun:close(Listener),
    until(fun() -> map_size(sys:get_state(curve_tun_cookie)) =:= 0 end).

the_watch_comes_back_to_its_connections(_) ->
    {{curve_tun_socket, Pid, _, _} = Client, Server} = pair([{active, true}], []),
    kill(curve_tun_monitor),
    until(fun() -> is_map_key(Pid, sys:get_state(curve_tun_monitor)) end),
    exit(Pid, kill),
    {error, crashed} = curve_tun_test:message(Client),
    closed = curve_tun_test:message(Client),
    {error, closed} = curve_tun:recv(Server).

%% The process that sends for several concurrent senders: it exists while one of them is blocked
%% with the writer lock.
a_sender_takes_its_connection_along(_) ->
    Before = curve_tun_test:count(),
    {{curve_tun_socket, Pid, _, _} = Client, Server} = narrow_pair(),
    Stuck = stuck(Client),
    Waiting = [spawn(fun() -> exit(curve_tun:send(Client, <<"x">>)) end) || _ <- [1, 2, 3]],
    Refs = [monitor(process, P) || P <- Waiting],
    until(fun() -> sender(Pid) =/= none end),
    exit(sender(Pid), kill),
    [receive {'DOWN', Ref, _, _, {error, closed}} -> ok end || Ref <- Refs],
    {error, closed} = curve_tun:send(Client, <<"x">>),
    until(fun() -> not is_process_alive(Pid) end),
    exit(Stuck, kill),
    ok = curve_tun:close(Server),
    settled(Before).

%% Sending processes are killed at any moment: what arrives is what was sent, in order, without a
%% gap that would end the connection.
a_writer_leaves_no_gap(_) ->
    {Client, Server} = Pair = pair([{receive_high_water, 1048576}]),
    [begin
         Writer = spawn(fun() -> count_up(Client, Round, 1) end),
         Other = spawn(fun() -> count_up(Client, Round + 1000, 1) end),
         timer:sleep(rand:uniform(5) - 1),
         exit(Writer, kill),
         exit(Other, kill),
         until(fun() -> not (is_process_alive(Writer) orelse is_process_alive(Other)) end),
         ok = curve_tun:send(Client, <<Round:32, 0:32>>),
         gapless(Server, Round, #{})
     end || Round <- lists:seq(1, 200)],
    stop_pair(Pair).

count_up(Client, Who, N) ->
    ok = curve_tun:send(Client, <<Who:32, N:32, 0:(8 * 1000 * (N rem 3))>>),
    count_up(Client, Who, N + 1).

%% Receives up to the message that ends a round: each writer's numbers arrive without a gap.
gapless(Server, Round, Last) ->
    case curve_tun:recv(Server) of
        <<Round:32, 0:32>> ->
            ok;
        <<Who:32, N:32, _/binary>> ->
            case Last of
                #{Who := Before} -> ?assertEqual(Before + 1, N);
                #{} -> ok
            end,
            gapless(Server, Round, Last#{Who => N})
    end.

%% The same for a process that a full socket blocks while it holds the writer lock, with others
%% waiting.
a_writer_that_is_stuck_leaves_no_gap(_) ->
    [begin
         {Client, Server} = Pair = narrow_pair(),
         Stuck = stuck(Client),
         Behind = [spawn_monitor(fun() -> ok = curve_tun:send(Client, <<1000:32, N:32>>) end) || N <- lists:seq(1, 3)],
         timer:sleep(10),
         exit(Stuck, kill),
         {Others, Next} = drained(Server, 3, [], 1),
         [1, 2, 3] = lists:sort(Others),
         [receive {'DOWN', Ref, _, _, Reason} -> normal = Reason end || {_, Ref} <- Behind],
         Last = spawn_monitor(fun() -> ok = curve_tun:send(Client, <<1000:32, 4:32>>) end),
         %% On a busy machine the process may have sent more although it looked blocked.
         {[4], _} = drained(Server, 1, [], Next),
         receive {'DOWN', Ref, process, Pid, Ended} when {Pid, Ref} =:= Last -> normal = Ended end,
         stop_pair(Pair)
     end || _ <- lists:seq(1, 20)].

drained(_Server, 0, Others, Next) -> {Others, Next};
drained(Server, Left, Others, Next) ->
    case curve_tun:recv(Server) of
        <<1000:32, N:32>> -> drained(Server, Left - 1, [N | Others], Next);
        <<1:32, N:32, _/binary>> -> ?assertEqual(Next, N), drained(Server, Left, Others, Next + 1)
    end.

%% Makes a pair whose sockets fill up soon.
narrow_pair() ->
    pair([{high_watermark, 4096}, {low_watermark, 1024}, {sndbuf, 4096}, {send_timeout, infinity}],
         [{receive_high_water, 1}, {recbuf, 4096}]).

%% Starts a process that sends until the socket takes no more.
stuck(Client) ->
    Pid = spawn(fun() -> count_up(Client, 1, 1) end),
    until(fun() ->
              {_, Before} = process_info(Pid, reductions),
              timer:sleep(50),
              [{_, Status}, {_, Now}] = process_info(Pid, [status, reductions]),
              Status =/= runnable andalso Status =/= running andalso Before =:= Now
          end),
    Pid.

a_listener(_) ->
    Before = curve_tun_test:count(),
    {{curve_tun_listen_socket, Pid} = Listener, Port} = listen(),
    Test = self(),
    spawn_link(fun() -> Test ! {accepted, curve_tun:accept(Listener, infinity)} end),
    Tcp = curve_tun_test:raw_connect(Port),
    timer:sleep(100),
    exit(Pid, kill),
    receive {accepted, Accepted} -> {error, closed} = Accepted end,
    <<>> = curve_tun_test:raw_closed(Tcp),
    gen_tcp:close(Tcp),
    settled(Before),
    works().

the_supervisor_of_connections(_) ->
    Before = curve_tun_test:count(),
    {Client, Server} = pair(),
    {Listener, Port} = listen(),
    kill(curve_tun_connection_sup),
    {error, closed} = curve_tun:recv(Client),
    {error, closed} = curve_tun:send(Server, <<"x">>),
    %% The listener continues.
    spawn_link(fun() -> {ok, S} = curve_tun:accept(Listener, 10000), ok = curve_tun:send(S, <<"again">>) end),
    {ok, Again} = connect(Port),
    <<"again">> = curve_tun:recv(Again),
    [ok = curve_tun:close(S) || S <- [Again, Listener]],
    curve_tun_test:flush(),
    settled(Before).

the_supervisor_of_listeners(_) ->
    {Listener, Port} = listen(),
    beside_traffic(fun() -> kill(curve_tun_listener_sup) end),
    {error, closed} = curve_tun:accept(Listener),
    until(fun() -> connect(Port) =:= {error, econnrefused} end),
    works().

%% Without its top supervisor the application ends; started again, it works and has left nothing
%% behind.
the_top_supervisor(_) ->
    Ports = length(erlang:ports()),
    {Client, Server} = pair(),
    exit(whereis(curve_tun_sup), kill),
    until(fun() -> not lists:keymember(curve_tun, 1, application:which_applications()) end),
    {error, closed} = curve_tun:recv(Client),
    {error, closed} = curve_tun:send(Server, <<"x">>),
    until(fun() -> length(erlang:ports()) =< Ports end),
    [undefined = whereis(Name) || Name <- [curve_tun_cookie, curve_tun_vault_nif, curve_tun_simple_registry]],
    ok = curve_tun_test:start(),
    works().
