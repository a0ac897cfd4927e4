%%% Many connections, few descriptors, and schedulers that must not be blocked.
-module(curve_tun_limits_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/1, connect/1, raw_connect/1, settled/1, until/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 300}}].

all() ->
    [silent_clients_against_the_limit_of_handshakes, out_of_descriptors, five_thousand_connections,
     no_scheduler_is_held_up].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

%% 200 silent clients against a limit of 100; an honest client every 100 ms is served each time.
silent_clients_against_the_limit_of_handshakes(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port} = listen([{handshakes_max, 100}]),
    Acceptor = spawn_link(fun Loop() ->
                   {ok, S} = curve_tun:accept(Listener, infinity),
                   ok = curve_tun:send(S, curve_tun:recv(S)),
                   ok = curve_tun:close(S),
                   Loop()
               end),
    Test = self(),
    Silent = spawn_link(fun() ->
                 Tcps = [begin timer:sleep(10), raw_connect(Port) end || _ <- lists:seq(1, 200)],
                 Test ! {connected, self()},
                 receive stop -> [gen_tcp:close(T) || T <- Tcps] end
             end),
    [begin
         timer:sleep(100),
         {ok, Honest} = connect(Port),
         ok = curve_tun:send(Honest, <<N>>),
         ?assertEqual(<<N>>, curve_tun:recv(Honest)),
         ok = curve_tun:close(Honest)
     end || N <- lists:seq(1, 30)],
    receive {connected, Silent} -> ok end,
    unlink(Acceptor),
    exit(Acceptor, kill),
    Silent ! stop,
    ok = curve_tun:close(Listener),
    settled(Before).

%% A node with 40 descriptors and 60 clients: the first ones continue to work, emfile is reported
%% without spinning, and when some leave the others are served.
out_of_descriptors(_) ->
    {Client, Log} = limited_node(),
    {ok, Key} = curve_tun:public_key(),
    Port = list_to_integer(value("port", Log())),
    {ok, ServerKey} = curve_tun:public_key_from_text(value("key", Log())),
    _ = Key,
    Test = self(),
    Clients = [spawn_link(fun() ->
                   {ok, S} = curve_tun:connect({127,0,0,1}, Port, [{key, ServerKey}, {handshake_timeout, infinity}], infinity),
                   echo_until_told(S, N, Test)
               end) || N <- lists:seq(1, 60)],
    until(fun() -> string:find(Log(), "emfile") =/= nomatch orelse Log() end),
    First = [receive {echoed, Pid} -> Pid end || _ <- lists:seq(1, 5)],
    [Pid ! again || Pid <- First],
    [receive {echoed, Pid} -> ok end || Pid <- First],
    timer:sleep(1000),
    %% At most ten tries a second, even with a loop of accepts.
    ?assert(length(string:split(Log(), "emfile", all)) < 60),
    %% Each served client leaves, so that in the end all have been served.
    [Pid ! stop || Pid <- Clients],
    Rest = lists:sort(Clients) -- lists:sort(First),
    [receive {echoed, Pid} -> ok after 60000 -> ct:fail({not_served, Pid}) end || Pid <- Rest],
    Client ! stop,
    ok.

echo_until_told(S, N, Test) ->
    ok = curve_tun:send(S, <<N>>),
    <<N>> = curve_tun:recv(S, infinity),
    Test ! {echoed, self()},
    receive
        again -> echo_until_told(S, N, Test);
        stop -> ok = curve_tun:close(S)
    end.

%% Starts an echo server in a separate node with few descriptors; returns its owner and a function
%% that returns its output.
limited_node() ->
    {ok, Key} = curve_tun:public_key(),
    %% Not code:which/1: it names no file of a module whose coverage is counted.
    Paths = lists:append([" -pa '" ++ filename:dirname(File) ++ "'" || Module <- [curve_tun, ?MODULE],
                                                                        {_, _, File} <- [code:get_object_code(Module)]]),
    Text = binary_to_list(curve_tun:public_key_to_text(Key)),
    Command = "ulimit -n 40; exec erl -noinput +Q 65536" ++ Paths ++ " -s curve_tun_limits_SUITE limited_server "
        ++ " -extra '" ++ Text ++ "'",
    Test = self(),
    Keeper = spawn_link(fun() ->
                 process_flag(trap_exit, true),
                 Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Command]}, stderr_to_stdout, binary]),
                 {os_pid, Pid} = erlang:port_info(Port, os_pid),
                 keep(Port, Pid, Test, <<>>)
             end),
    Log = fun() -> Keeper ! {log, self()}, receive {log, Text1} -> binary_to_list(Text1) end end,
    until(fun() -> string:find(Log(), "ready\n") =/= nomatch end),
    {Keeper, Log}.

keep(Port, Pid, Test, Log) ->
    receive
        {Port, {data, Data}} -> keep(Port, Pid, Test, <<Log/binary, Data/binary>>);
        {log, To} -> To ! {log, Log}, keep(Port, Pid, Test, Log);
        %% Out of descriptors, it may be unable to end by itself.
        stop -> os:cmd("kill -KILL " ++ integer_to_list(Pid));
        {'EXIT', Test, _} -> os:cmd("kill -KILL " ++ integer_to_list(Pid))
    end.

limited_server() ->
    [Text] = init:get_plain_arguments(),
    {ok, _} = application:ensure_all_started(curve_tun),
    {ok, Client} = curve_tun:public_key_from_text(Text),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Client),
    {ok, Listener} = curve_tun:listen(0, [{ip, {127,0,0,1}}]),
    {ok, {_, Port}} = curve_tun:sockname(Listener),
    {ok, Own} = curve_tun:public_key(),
    io:format("port ~b~nkey ~s~nready~n", [Port, curve_tun:public_key_to_text(Own)]),
    limited_loop(Listener).

limited_loop(Listener) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, S} ->
            Pid = spawn(fun() -> receive go -> ok end, echo(S) end),
            ok = curve_tun:controlling_process(S, Pid),
            Pid ! go;
        {error, Reason} ->
            %% Without descriptors no further module can be loaded, such as the one that prints
            %% terms.
            io:put_chars([atom_to_list(Reason), "\n"])
    end,
    limited_loop(Listener).

echo(S) ->
    case curve_tun:recv(S, infinity) of
        {error, closed} -> ok;
        Message -> ok = curve_tun:send(S, Message), echo(S)
    end.

value(Name, Log) ->
    [Value] = [V || Line <- string:lexemes(Log, "\n"), [N, V] <- [string:lexemes(Line, " ")], N =:= Name],
    Value.

%% The connections are between this node and another one; the memory of an idle end is measured
%% here.
five_thousand_connections(_) ->
    Count = 5000,
    case descriptors() < 2 * Count of
        true -> curve_tun_test:lacks("descriptors");
        false -> five_thousand(Count)
    end.

descriptors() ->
    list_to_integer(string:trim(os:cmd("ulimit -n"))) .

five_thousand(Count) ->
    Before = curve_tun_test:count(),
    {Listener, Port} = listen([{backlog, 1024}]),
    Test = self(),
    %% Linked, so that the test does not wait for a failed server.
    Server = spawn_link(fun() ->
                 Ss = [begin {ok, S} = curve_tun:accept(Listener, infinity), S end || _ <- lists:seq(1, Count)],
                 Test ! {server, Ss},
                 receive stop -> ok end
             end),
    Clients0 = [begin {ok, S} = connect(Port), S end || _ <- lists:seq(1, 100)],
    Memory0 = memory(),
    Clients = Clients0 ++ [begin {ok, S} = connect(Port), S end || _ <- lists:seq(101, Count)],
    receive {server, Servers} -> ok end,
    %% All are served, several at once.
    [ok = curve_tun:send(S, <<"ping">>) || S <- Clients],
    [<<"ping">> = curve_tun:recv(S) || S <- Servers],
    timer:sleep(4000),
    [erlang:garbage_collect(P) || P <- [self(), Server]],
    {Beam, Resident} = memory(),
    {Beam0, Resident0} = Memory0,
    Ends = 2 * (Count - 100),
    ct:pal("an idle end: ~b bytes in the BEAM, ~b bytes resident in all",
           [(Beam - Beam0) div Ends, (Resident - Resident0) div Ends]),
    [ok = curve_tun:close(S) || S <- Clients],
    Server ! stop,
    ok = curve_tun:close(Listener),
    settled(Before).

memory() ->
    {ok, Statm} = file:read_file("/proc/self/statm"),
    [_, Resident | _] = string:lexemes(Statm, " "),
    {erlang:memory(total), 4096 * binary_to_integer(Resident)}.

%% Under load of every size, no call of the NIF on a normal scheduler takes a millisecond of
%% processor time. The system may suspend the process meanwhile, so the reports of the system
%% monitor are counted and the fastest of several calls with the largest portions is judged.
no_scheduler_is_held_up(_) ->
    {Client, Server} = Pair = curve_tun_test:pair(),
    _ = erlang:system_monitor(self(), [{long_schedule, 50}]),
    [begin
         Messages = lists:duplicate(max(1, 4000000 div (Size + 34)), binary:copy(<<7>>, Size)),
         Sender = spawn_link(fun() -> ok = curve_tun:send_many(Client, Messages) end),
         [M = curve_tun:recv(Server, 20000) || M <- Messages],
         unlink(Sender)
     end || Size <- [0, 1, 64, 1024, 16384, 65503]],
    _ = erlang:system_monitor(undefined),
    Held = [Report || {monitor, _, long_schedule, Info} = Report <- mailbox(),
                      {in, {curve_tun_nif, _, _}} <- Info],
    ?assertEqual([], Held),
    curve_tun_test:stop_pair(Pair),
    quickest_portions().

mailbox() ->
    receive Message -> [Message | mailbox()] after 0 -> [] end.

quickest_portions() ->
    {Listener, Port} = listen([]),
    spawn_link(fun() -> curve_tun:accept(Listener, 10000), receive never -> ok end end),
    {Tcp, Nif, _} = curve_tun_test:raw_client(Port),
    [begin
         Messages = lists:duplicate(20000, binary:copy(<<7>>, Size)),
         Times = [element(1, timer:tc(fun() -> {ok, _, _} = curve_tun_nif:seal(Nif, Messages) end)) || _ <- lists:seq(1, 20)],
         ct:pal("sealing a portion of ~b-byte messages: ~b us at best", [Size, lists:min(Times)]),
         ?assert(lists:min(Times) < 1000)
     end || Size <- [0, 64, 1024, 16384, 65503]],
    gen_tcp:close(Tcp),
    ok = curve_tun:close(Listener).
