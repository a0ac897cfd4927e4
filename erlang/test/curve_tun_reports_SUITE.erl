%%% Crash reports and statuses of the application's processes, with requests in their queues:
%%% printable by OTP, and without messages.
-module(curve_tun_reports_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [pair/0, until/1, sender/1]).

-compile([export_all, nowarn_export_all]).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [a_connection_in_its_own_code, a_connection_that_is_terminated, a_connection_with_any_data, a_sender, a_listener,
     named_processes, every_shape_of_a_status].

init_per_suite(Config) -> ok = curve_tun_test:start(), Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_testcase(_, Config) -> curve_tun_test:flush(), Config.
end_per_testcase(_, _) -> ok.

-define(HIDDEN, "nobody may see this").

%% The process is suspended, gets requests, and then crashes: OTP's formatter turns the log into
%% text, and nothing of the requests is in it.
reports(Pid, Requests, Crash) ->
    Id = curve_tun_test:forward_log(error),
    Ref = monitor(process, Pid),
    ok = sys:suspend(Pid),
    Askers = [spawn(Request) || Request <- Requests],
    until(fun() -> {message_queue_len, N} = process_info(Pid, message_queue_len), N >= length(Requests) end),
    Crash(),
    receive {'DOWN', Ref, process, Pid, _} -> ok end,
    %% The report of the process comes before that of its supervisor.
    Events = logged(),
    ok = logger:remove_handler(Id),
    ok = logger:set_primary_config(level, notice),
    Text = unicode:characters_to_list([formatted(Event) || Event <- Events]),
    _ = [exit(Asker, kill) || Asker <- Askers],
    shows_nothing(Text),
    ?assertNotEqual(nomatch, string:find(Text, "crasher")),
    Text.

formatted(Event) ->
    logger_formatter:format(Event, #{single_line => false, legacy_header => true}).

shows_nothing(Text) ->
    ?assertEqual(nomatch, string:find(Text, "REPORT_CB")),
    ?assertEqual(nomatch, string:find(Text, "FORMATTER CRASH")),
    ?assertEqual(nomatch, string:find(Text, "format_status/1 crashed")),
    ?assertEqual(nomatch, string:find(Text, ?HIDDEN)).

%% Returns the events up to the crash report of proc_lib, and those available by then.
logged() ->
    receive
        {log, #{msg := {report, #{label := {proc_lib, crash}}}} = Event} -> [Event | rest()];
        {log, Event} -> [Event | logged()]
    after 10000 -> ct:fail(no_crash_report)
    end.

rest() ->
    receive {log, Event} -> [Event | rest()] after 100 -> [] end.

sends(Socket) ->
    [fun() -> curve_tun_request:call(pid(Socket), {send, [<<?HIDDEN>>]}) end || _ <- [1, 2, 3]]
        ++ [fun() -> gen_statem:cast(pid(Socket), {unknown, <<?HIDDEN>>}) end,
            fun() -> pid(Socket) ! {unknown, [?HIDDEN]} end, fun() -> pid(Socket) ! ?HIDDEN end,
            fun() -> curve_tun:recv(Socket) end].

pid({curve_tun_socket, Pid, _, _}) -> Pid.

%% Replaces the data of a process by something that its code fails on.
spoil(Pid, Data) ->
    _ = sys:replace_state(Pid, fun({State, Old}) when is_tuple(Old) -> {State, Data(Old)}; (Old) -> Data(Old) end).

a_connection_in_its_own_code(_) ->
    {Client, Server} = pair(),
    ok = curve_tun:send(Client, <<?HIDDEN>>),
    %% The first request served finds no map, number or record where there was one.
    Text = reports(pid(Server), sends(Server), fun() ->
               spoil(pid(Server), fun(D) -> list_to_tuple([data | [{?HIDDEN} || _ <- tl(tuple_to_list(D))]]) end),
               sys:resume(pid(Server))
           end),
    ?assertNotEqual(nomatch, string:find(Text, "State machine")),
    {error, closed} = curve_tun:recv(Server),
    ok = curve_tun:close(Client).

a_connection_that_is_terminated(_) ->
    {Client, Server} = pair(),
    ok = curve_tun:send(Client, <<?HIDDEN>>),
    _ = reports(pid(Server), sends(Server), fun() -> ok = sys:terminate(pid(Server), boom) end),
    ok = curve_tun:close(Client).

a_connection_with_any_data(_) ->
    [begin
         {Client, Server} = pair(),
         _ = reports(pid(Server), sends(Server), fun() ->
                 spoil(pid(Server), fun(_) -> Data end),
                 ok = sys:terminate(pid(Server), boom)
             end),
         ok = curve_tun:close(Client)
     end || Data <- [not_data, {data, <<?HIDDEN>>}, [?HIDDEN], #{data => ?HIDDEN}]].

a_sender(_) ->
    {Client, Server} = curve_tun_test:pair([{active, true}], []),
    until(fun() -> [ok = curve_tun:send(Client, <<N>>) || N <- lists:seq(1, 50)], sender(pid(Client)) =/= none end),
    Sender = sender(pid(Client)),
    Send = fun() -> curve_tun_sender:enqueue(Sender, {self(), make_ref()}, [<<?HIDDEN>>]) end,
    _ = reports(Sender, [Send, Send, fun() -> Sender ! ?HIDDEN end], fun() -> ok = sys:terminate(Sender, {boom, ?HIDDEN}) end),
    {error, crashed} = curve_tun_test:message(Client),
    closed = curve_tun_test:message(Client),
    ok = curve_tun:close(Server).

a_listener(_) ->
    {{curve_tun_listen_socket, Pid} = Listener, _} = curve_tun_test:listen(),
    Accept = fun() -> curve_tun:accept(Listener) end,
    _ = reports(Pid, [Accept, Accept], fun() -> ok = sys:terminate(Pid, boom) end),
    {{curve_tun_listen_socket, Pid2} = Listener2, _} = curve_tun_test:listen(),
    Accept2 = fun() -> curve_tun:accept(Listener2) end,
    _ = reports(Pid2, [Accept2, Accept2], fun() ->
            spoil(Pid2, fun(_) -> [no, state] end),
            Pid2 ! {accept_failed, timeout},
            sys:resume(Pid2)
        end).

%% Their requests are not secret, and neither is their data.
named_processes(_) ->
    [begin
         Pid = whereis(Name),
         Ask = fun() -> gen_server:call(Pid, what) end,
         _ = reports(Pid, [Ask, Ask], fun() -> ok = sys:terminate(Pid, boom) end),
         until(fun() -> is_pid(whereis(Name)) andalso whereis(Name) =/= Pid end)
     end || Name <- [curve_tun_cookie, curve_tun_vault_nif, curve_tun_simple_registry, curve_tun_monitor]].

every_shape_of_a_status(_) ->
    Odd = [undefined, [], [?HIDDEN], {?HIDDEN}, {}, #{}, ?HIDDEN, <<?HIDDEN>>, 1, [{cast, ?HIDDEN}], [{cast, {send, ?HIDDEN}}],
           [{{call, {self(), make_ref()}}, {send, [<<?HIDDEN>>]}} | improper], {error, {?HIDDEN, []}, []},
           {?HIDDEN, [{curve_tun, send, [?HIDDEN], []}]}, {badmatch, ?HIDDEN}],
    [begin
         Status = maps:from_list([{Key, Value} || Key <- [data, queue, postponed, log, message, reason] ++ [state || Listener]]),
         Shown = Module:format_status(Status),
         ?assertEqual(lists:sort(maps:keys(Status)), lists:sort(maps:keys(Shown))),
         shows_nothing(lists:flatten(io_lib:format("~p", [maps:without([data || Listener], Shown)]))),
         [?assert(is_list(maps:get(Key, Shown))) || Key <- [queue, postponed]]
     end || {Module, Listener} <- [{curve_tun_connection, false}, {curve_tun_listener, true}], Value <- Odd].
