%%% Clients without a key, or that leave at once, are no burden: their requests to a vault or
%%% registry end with them, and delay only those of their own source. Time is measured in calls of
%%% the provider, not in milliseconds.
-module(curve_tun_flood_SUITE).

-include_lib("stdlib/include/assert.hrl").
-import(curve_tun_test, [listen/1, connect/1, connect/2, until/1, settled/1, raw_closed/1]).

-compile([export_all, nowarn_export_all]).

-define(PATIENCE, 60000).
-define(MAX, 16).
-define(SHARE, 8).
-define(HONEST, {127,0,0,2}).
%% Bytes of a hello, and of hello and initiate together, with their lengths.
-define(HELLO, 130).
-define(INITIATE, 356).

suite() -> [{timetrap, {seconds, 120}}].

all() ->
    [{group, Way} || Way <- [accept, transport]]
    ++ [silent_clients_of_one_address_take_no_more_than_their_share, who_gives_way_is_told,
        a_client_that_leaves_goes_while_it_is_asked_about,
        a_client_that_leaves_goes_while_a_vault_of_the_nif_is_asked,
        what_was_sent_before_an_end_in_order_arrives, more_than_is_read_ahead_arrives,
        who_owns_a_waiting_handshake_ends_it, a_closed_listener_takes_its_questions_along,
        a_call_that_hangs_keeps_half_the_places, max_concurrency_are_what_the_provider_says,
        a_provider_that_says_nonsense_is_refused, turns_outlive_a_crash,
        the_application_stops_while_it_asks, a_transport_that_comes_late_waits_for_its_accept].

groups() ->
    [{Way, [], [flood_of_hellos_on_a_vault, flood_of_initiates_on_a_registry]} || Way <- [accept, transport]].

init_per_suite(Config) ->
    ok = curve_tun_test:start(),
    Config.
end_per_suite(_) -> curve_tun_test:stop().
init_per_group(Way, Config) -> [{way, Way} | Config].
end_per_group(_, _) -> ok.
init_per_testcase(_, Config) ->
    curve_tun_test:flush(),
    _ = curve_tun_test_vault:well(),
    ok = curve_tun_test_registry:behave(well),
    {ok, Serial} = curve_tun_test_serial:start_link(),
    unlink(Serial),
    Config.
end_per_testcase(_, _) -> curve_tun_test_serial:stop().

%%% Servers and floods

%% Serves each client in a separate process, which echoes; returns the listener, its port and the
%% process.
server(Way, Options) ->
    Test = self(),
    Server = spawn_link(fun() ->
                 {Listener, Port} = curve_tun_test:listen(Options),
                 Test ! {self(), Listener, Port},
                 serve(Way, Listener)
             end),
    receive {Server, Listener, Port} -> {Listener, Port, Server} end.

serve(accept, Listener) ->
    case curve_tun:accept(Listener, infinity) of
        {ok, Socket} -> hand_over(Socket, fun() -> echo(Socket) end), serve(accept, Listener);
        {error, closed} -> ok
    end;
serve(transport, Listener) ->
    case curve_tun:transport_accept(Listener, infinity) of
        {ok, Socket} ->
            hand_over(Socket, fun() ->
                                  case curve_tun:handshake(Socket, infinity) of
                                      {ok, _} -> echo(Socket);
                                      {error, _} -> refused
                                  end
                              end),
            serve(transport, Listener);
        {error, closed} ->
            ok
    end.

hand_over(Socket, Do) ->
    Pid = spawn(fun() -> receive go -> Do() end end),
    %% It may have left.
    _ = curve_tun:controlling_process(Socket, Pid),
    Pid ! go.

echo(Socket) ->
    case curve_tun:recv(Socket, infinity) of
        Message when is_binary(Message) -> _ = curve_tun:send(Socket, Message), echo(Socket);
        {error, _} -> ok = curve_tun:close(Socket)
    end.

from(Address, Port) ->
    {ok, Tcp} = gen_tcp:connect({127,0,0,1}, Port, [binary, {active, false}, {nodelay, true}, {ip, Address}], ?PATIENCE),
    Tcp.

hello() ->
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    Nif = curve_tun_nif:connection_new(),
    {ok, Hello} = curve_tun_nif:begin_client(Nif, Vault, Key),
    {Nif, Hello}.

%% Completes a handshake that has sent its hello.
initiate(Tcp, Nif) ->
    {ok, Cookie} = gen_tcp:recv(Tcp, 2 + 168, ?PATIENCE),
    {ok, connected, Initiate, <<>>, none} = curve_tun_nif:handshake(Nif, Cookie),
    ok = gen_tcp:send(Tcp, Initiate),
    ok = curve_tun_nif:established(Nif, 0).

send(Tcp, Nif, Message) ->
    {ok, Frames, []} = curve_tun_nif:seal(Nif, [Message]),
    ok = gen_tcp:send(Tcp, Frames),
    ok = curve_tun_nif:written(Nif).

%% Reads the next message, from any number of pieces.
message(Tcp, Nif) ->
    {ok, Bytes} = gen_tcp:recv(Tcp, 0, ?PATIENCE),
    case curve_tun_nif:open(Nif, Bytes) of
        {[Message], <<>>, ok} -> Message;
        {[], <<>>, ok} -> message(Tcp, Nif)
    end.

%% Sends well-formed hellos, or whole handshakes, from one address, each closed at once.
flooder(Depth, Count, Port) ->
    Test = self(),
    spawn_monitor(fun() ->
        {_, Hello} = hello(),
        _ = [begin
                 case Depth of
                     hello ->
                         Tcp = from({127,0,0,1}, Port),
                         _ = gen_tcp:send(Tcp, Hello),
                         gen_tcp:close(Tcp);
                     initiate ->
                         {Nif, Fresh} = hello(),
                         Tcp = from({127,0,0,1}, Port),
                         %% It may be evicted.
                         _ = catch begin ok = gen_tcp:send(Tcp, Fresh), initiate(Tcp, Nif) end,
                         gen_tcp:close(Tcp)
                 end,
                 N =:= Count div 20 andalso (Test ! {under_way, self()})
             end || N <- lists:seq(1, Count)]
    end).

%% Starts clients at the flood's address that stay: their requests have been made when the flood
%% begins.
asked(Depth, Count, Port) ->
    [begin
         {Nif, Hello} = hello(),
         Tcp = from({127,0,0,1}, Port),
         ok = gen_tcp:send(Tcp, Hello),
         _ = Depth =:= initiate andalso initiate(Tcp, Nif),
         Tcp
     end || _ <- lists:seq(1, Count)].

over(Flooders) ->
    [receive {'DOWN', Ref, process, Pid, Reason} -> normal = Reason end || {Pid, Ref} <- Flooders].

%%% A flood, and an honest client in it

flood_of_hellos_on_a_vault(Config) ->
    [begin
         Times = maps:from_keys([box, box_open, safe_nonce], Ms),
         Notes = flooded(Config, hello, 2000, [{vault, curve_tun_test_serial}, {registry, curve_tun_test_registry}], Times),
         [begin
              Others = others(Function, Received, Notes),
              ct:log("~p ms: ~p other calls before ~p", [Ms, Others, Function]),
              ?assert(Others =< allowed(Ms) + More, {Ms, Function, Others})
          end || {Function, Received, More} <- [{box_open, ?HELLO, 0}, {box, ?HELLO, 3}, {box_open, ?INITIATE, 0}]]
     end || Ms <- [0, 1, 20, 200]].

flood_of_initiates_on_a_registry(Config) ->
    [begin
         Notes = flooded(Config, initiate, 600, [{registry, curve_tun_test_serial}], #{verify => Ms}),
         Others = others(verify, ?INITIATE, Notes),
         ct:log("~p ms: ~p other calls before it", [Ms, Others]),
         ?assert(Others =< allowed(Ms), {Ms, Others})
     end || Ms <- [0, 1, 20, 200]].

%% Calls made before a request has come from the socket to its turn: on a busy machine that takes a
%% while.
allowed(0) -> 60;
allowed(1) -> 30;
allowed(20) -> 10;
allowed(200) -> 1.

flooded(Config, Depth, Count, Providers, Times) ->
    Ports = length(erlang:ports()),
    ok = curve_tun_test_registry:behave({say, true}),
    Options = [{handshakes_max, ?MAX}, {handshakes_per_source, ?SHARE}, {handshake_timeout, ?PATIENCE} | Providers],
    {Listener, Port, Server} = server(proplists:get_value(way, Config), Options),
    {Nif, <<_:16, _:64, Short:32/binary, _/binary>> = Hello} = hello(),
    ok = curve_tun_test_serial:take(Times),
    {ok, Long} = curve_tun:public_key(),
    ok = curve_tun_test_serial:watch(#{address => ?HONEST, keys => [Short, Long], port => Port}),
    %% They fill their share of the requests.
    Asked = asked(Depth, 2, Port),
    until(fun() -> length(curve_tun_test_serial:notes()) >= 2 end),
    Flooders = [flooder(Depth, Count div 2, Port) || _ <- [1, 2]],
    _ = [receive {under_way, Flooder} -> ok end || {Flooder, _} <- Flooders],
    Honest = from(?HONEST, Port),
    ok = gen_tcp:send(Honest, Hello),
    initiate(Honest, Nif),
    send(Honest, Nif, <<"honest">>),
    ?assertEqual(<<"honest">>, message(Honest, Nif)),
    ok = curve_tun_test_serial:take(#{}),
    over(Flooders),
    Notes = curve_tun_test_serial:notes(),
    Most = lists:max([P || {_, _, _, P} <- Notes]),
    ct:log("~p ports at first, ~p at most", [Ports, Most]),
    %% The listener, one that waits for a permit, one just accepted; two of the flooder's own; the
    %% client's end of those asked first; both ends of the honest one.
    ?assert(Most =< Ports + ?MAX + 10, {Ports, Most}),
    _ = [ok = gen_tcp:close(Tcp) || Tcp <- [Honest | Asked]],
    unlink(Server),
    ok = curve_tun:close(Listener),
    Notes.

%% Returns how many calls were made for others between the first call that began after the watched
%% client's bytes had arrived and its own call of the function.
others(Function, Received, Notes) ->
    Since = lists:dropwhile(fun({_, _, Bytes, _}) -> Bytes < Received end, Notes),
    {Before, [_ | _]} = lists:splitwith(fun({Whose, F, _, _}) -> {Whose, F} =/= {mine, Function} end, Since),
    length([other || {other, _, _, _} <- Before]).

%%% Permits

silent_clients_of_one_address_take_no_more_than_their_share(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port, Server} = server(transport, [{handshakes_max, 20}, {handshakes_per_source, 5}]),
    ok = curve_tun_simple_registry:register(?HONEST, element(2, curve_tun:public_key())),
    Silent = [from({127,0,0,1}, Port) || _ <- lists:seq(1, 30)],
    _ = [raw_closed(Tcp) || Tcp <- lists:sublist(Silent, 25)],
    {Nif, Hello} = hello(),
    Honest = from(?HONEST, Port),
    ok = gen_tcp:send(Honest, Hello),
    initiate(Honest, Nif),
    send(Honest, Nif, <<"honest">>),
    ?assertEqual(<<"honest">>, message(Honest, Nif)),
    _ = [?assertEqual({error, timeout}, gen_tcp:recv(Tcp, 0, 0)) || Tcp <- lists:nthtail(25, Silent)],
    _ = [gen_tcp:close(Tcp) || Tcp <- [Honest | Silent]],
    unlink(Server),
    ok = curve_tun:close(Listener),
    settled(Before).

%% Both ways share one count: the new handshake is for `accept', and the evicted ones were for
%% `transport_accept'.
who_gives_way_is_told(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port} = listen([{handshakes_per_source, 2}]),
    Take = fun() -> Tcp = from({127,0,0,1}, Port), {ok, S} = curve_tun:transport_accept(Listener, ?PATIENCE), {Tcp, S} end,
    [{Tcp1, Asked}, {Tcp2, Idle}] = [Take(), Take()],
    Test = self(),
    Waits = spawn_link(fun() ->
                receive go -> ok end,
                Test ! {self(), curve_tun:handshake(Asked, infinity)}
            end),
    ok = curve_tun:controlling_process(Asked, Waits),
    Waits ! go,
    until(fun() -> {ok, [_, _, {state, State}]} = curve_tun:connection_information(Asked), State =:= ready end),
    Acceptor = spawn_link(fun() -> curve_tun:accept(Listener, infinity) end),
    Tcp3 = from({127,0,0,1}, Port),
    receive {Waits, Result} -> ?assertEqual({error, too_many_handshakes}, Result) end,
    Tcp4 = from({127,0,0,1}, Port),
    _ = raw_closed(Tcp2),
    ?assertEqual({error, closed}, curve_tun:handshake(Idle, infinity)),
    unlink(Acceptor),
    ok = curve_tun:close(Listener),
    _ = [gen_tcp:close(Tcp) || Tcp <- [Tcp1, Tcp2, Tcp3, Tcp4]],
    settled(Before).

%% A client comes when nobody waits any more, but the listener still accepts. It goes to the process
%% that accepts transports.
a_transport_that_comes_late_waits_for_its_accept(_) ->
    {Listener, Port} = listen([]),
    {Waiter, Monitor} = spawn_monitor(fun() -> curve_tun:transport_accept(Listener, infinity) end),
    until(fun() -> process_info(Waiter, current_function) =:= {current_function, {gen, wait_response, 2}}
                       orelse process_info(Waiter, current_function) end),
    exit(Waiter, kill),
    receive {'DOWN', Monitor, process, Waiter, killed} -> ok end,
    Client = spawn_link(fun() -> {ok, _} = connect(Port), receive never -> ok end end),
    timer:sleep(100),
    {ok, Transport} = curve_tun:transport_accept(Listener, ?PATIENCE),
    {ok, _} = curve_tun:handshake(Transport, ?PATIENCE),
    unlink(Client),
    exit(Client, kill),
    ok = curve_tun:close(Transport),
    ok = curve_tun:close(Listener).

%%% Leaving

%% Starts clients whose requests are in progress, each from `Address'; returns their sockets.
asking(Depth, Address, Port, Count) ->
    [begin
         {Nif, Hello} = hello(),
         Tcp = from(Address, Port),
         ok = gen_tcp:send(Tcp, Hello),
         Depth =:= initiate andalso initiate(Tcp, Nif),
         {Tcp, Nif}
     end || _ <- lists:seq(1, Count)].

connections() -> element(3, curve_tun_test:count()).

a_client_that_leaves_goes_while_it_is_asked_about(_) ->
    Before = curve_tun_test:count(),
    [begin
         {Listener, Port, Server} = server(Way, [{handshake_timeout, infinity}, Provider]),
         ok = sys:suspend(curve_tun_test_serial),
         Clients = asking(Depth, {127,0,0,1}, Port, 3),
         until(fun() -> connections() =:= element(3, Before) + 3 end),
         [begin leave(How, Tcp), until(fun() -> connections() =:= element(3, Before) + Left end) end
          || {{Tcp, _}, How, Left} <- lists:zip3(Clients, Hows, [2, 1, 0])],
         ok = sys:resume(curve_tun_test_serial),
         unlink(Server),
         ok = curve_tun:close(Listener)
     end || Way <- [accept, transport],
            {Depth, Provider, Hows} <- [{hello, {vault, curve_tun_test_serial}, [in_order, reset, early]},
                                        %% A client that ends in order may have sent everything it
                                        %% had.
                                        {initiate, {registry, curve_tun_test_serial}, [early, reset, early]}]],
    settled(Before).

leave(in_order, Tcp) ->
    ok = gen_tcp:close(Tcp);
leave(reset, Tcp) ->
    ok = inet:setopts(Tcp, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Tcp);
%% It sends more than it may before it has its answer.
leave(early, Tcp) ->
    ok = gen_tcp:send(Tcp, <<0:8000>>),
    ok = inet:setopts(Tcp, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Tcp).

%% The same with threads of the NIF: a name server that does not answer.
a_client_that_leaves_goes_while_a_vault_of_the_nif_is_asked(_) ->
    curve_tun_test:stop(),
    {ok, Silent} = gen_udp:open(0, [{ip, {127,0,0,1}}]),
    {ok, NameServer} = inet:port(Silent),
    Settings = [{zone, "test"}, {servers, [{{127,0,0,1}, NameServer}]}, {timeout_ms, 3600000}, {allow_unvalidated, true}],
    ok = curve_tun_test:start([{registry_dns, Settings},
                               {registry_providers, [curve_tun_simple_registry, curve_tun_dns_registry]}]),
    Before = curve_tun_test:count(),
    [begin
         {Listener, Port, Server} = server(Way, [{handshake_timeout, infinity}, {registry, curve_tun_dns_registry}]),
         Clients = asking(initiate, {127,0,0,1}, Port, 2),
         until(fun() -> connections() =:= element(3, Before) + 2 end),
         [begin leave(How, Tcp), until(fun() -> connections() =:= element(3, Before) + Left end) end
          || {{Tcp, _}, How, Left} <- lists:zip3(Clients, [early, reset], [1, 0])],
         unlink(Server),
         ok = curve_tun:close(Listener)
     end || Way <- [accept, transport]],
    settled(Before),
    ok = gen_udp:close(Silent),
    curve_tun_test:stop(),
    ok = curve_tun_test:start().

%% A client that connects, sends and closes delays nobody; if it may come in, what it sent is
%% delivered.
what_was_sent_before_an_end_in_order_arrives(_) ->
    {Listener, Port} = listen([{registry, curve_tun_test_serial}, {handshake_timeout, infinity}]),
    ok = sys:suspend(curve_tun_test_serial),
    Test = self(),
    spawn_link(fun() ->
        {ok, Socket} = curve_tun:accept(Listener, infinity),
        Test ! [curve_tun:recv(Socket, ?PATIENCE) || _ <- [1, 2, 3]]
    end),
    [{Tcp, Nif}] = asking(initiate, {127,0,0,1}, Port, 1),
    [send(Tcp, Nif, Message) || Message <- [<<"one">>, <<"two">>]],
    ok = gen_tcp:shutdown(Tcp, write),
    until(fun() -> [ok || P <- erlang:ports(), is_close_wait(P)] =/= [] end),
    ok = sys:resume(curve_tun_test_serial),
    receive Got -> ?assertEqual([<<"one">>, <<"two">>, {error, closed}], Got) end,
    ok = gen_tcp:close(Tcp),
    ok = curve_tun:close(Listener).

is_close_wait(Port) ->
    erlang:port_info(Port, name) =:= {name, "tcp_inet"} andalso
        case inet:getopts(Port, [{raw, 6, 11, 1}]) of
            {ok, [{raw, 6, 11, <<8>>}]} -> true;
            _ -> false
        end.

more_than_is_read_ahead_arrives(_) ->
    {Listener, Port} = listen([{registry, curve_tun_test_serial}, {handshake_timeout, infinity}]),
    ok = sys:suspend(curve_tun_test_serial),
    Test = self(),
    Count = 40,
    Acceptor = spawn_link(fun() ->
        {ok, Socket} = curve_tun:accept(Listener, infinity),
        Test ! [curve_tun:recv(Socket, ?PATIENCE) || _ <- lists:seq(1, Count)]
    end),
    {ok, Client} = connect(Port),
    Messages = [<<N:80000>> || N <- lists:seq(1, Count)],
    ok = curve_tun:send_many(Client, Messages),
    until(fun() -> lists:max([0 | [N || P <- erlang:ports(), {ok, [{recv_oct, N}]} <- [inet:getstat(P, [recv_oct])]]])
                       >= 65536 end),
    ok = sys:resume(curve_tun_test_serial),
    receive [_ | _] = Got -> ?assert(Got =:= Messages) end,
    unlink(Acceptor),
    ok = curve_tun:close(Client),
    ok = curve_tun:close(Listener).

who_owns_a_waiting_handshake_ends_it(_) ->
    Before = curve_tun_test:count(),
    {Listener, Port} = listen([{registry, curve_tun_test_serial}, {handshake_timeout, infinity}]),
    ok = sys:suspend(curve_tun_test_serial),
    Test = self(),
    Owner = fun() ->
                {ok, Socket} = curve_tun:transport_accept(Listener, infinity),
                Test ! {self(), Socket},
                Test ! {self(), curve_tun:handshake(Socket, infinity)}
            end,
    Own = fun() ->
              Pid = spawn(Owner),
              [{Tcp, _}] = asking(initiate, {127,0,0,1}, Port, 1),
              receive {Pid, Socket} -> {Pid, Tcp, Socket} end
          end,
    {Killed, Tcp1, _} = Own(),
    exit(Killed, kill),
    _ = raw_closed(Tcp1),
    {Closed, Tcp2, Socket} = Own(),
    ok = curve_tun:close(Socket),
    receive {Closed, Result} -> ?assertEqual({error, closed}, Result) end,
    _ = raw_closed(Tcp2),
    ok = sys:resume(curve_tun_test_serial),
    _ = [gen_tcp:close(Tcp) || Tcp <- [Tcp1, Tcp2]],
    ok = curve_tun:close(Listener),
    settled(Before).

%% One request has begun; the four others are never put.
a_closed_listener_takes_its_questions_along(_) ->
    [a_closed_listener_takes_its_questions_along_of(Way) || Way <- [accept, transport]].

a_closed_listener_takes_its_questions_along_of(Way) ->
    Before = curve_tun_test:count(),
    {Listener, Port, Server} = server(Way, [{registry, curve_tun_test_serial}, {handshake_timeout, infinity}]),
    ok = curve_tun_test_serial:watch(#{address => ?HONEST, keys => [], port => Port}),
    ok = sys:suspend(curve_tun_test_serial),
    Clients = asking(initiate, {127,0,0,1}, Port, 5),
    {Serial, Mailbox} = {whereis(curve_tun_test_serial), fun(Pid) -> element(2, process_info(Pid, message_queue_len)) end},
    until(fun() -> connections() =:= element(3, Before) + 5 andalso Mailbox(Serial) =:= 1 end),
    unlink(Server),
    ok = curve_tun:close(Listener),
    until(fun() -> connections() =:= element(3, Before) end),
    ?assertEqual(1, Mailbox(Serial)),
    ok = sys:resume(curve_tun_test_serial),
    ?assertMatch([{other, verify, _, _}], curve_tun_test_serial:notes()),
    _ = [gen_tcp:close(Tcp) || {Tcp, _} <- Clients],
    settled(Before).

%%% Concurrent calls

%% Makes a provider from the text of its functions.
provider(Name, Functions) ->
    Forms = [begin
                 {ok, Tokens, _} = erl_scan:string(Text),
                 {ok, Form} = erl_parse:parse_form(Tokens),
                 Form
             end || Text <- ["-module(" ++ atom_to_list(Name) ++ ").", "-compile([export_all, nowarn_export_all])."
                             | Functions]],
    {ok, Name, Code} = compile:forms(Forms),
    {module, Name} = code:load_binary(Name, "test", Code),
    Name.

a_call_that_hangs_keeps_half_the_places(_) ->
    Before = curve_tun_test:count(),
    true = register(curve_tun_flood_told, self()),
    Registry = provider(curve_tun_flood_hangs,
                        ["max_concurrency() -> 2.",
                         "verify(_, _, #{address := {127,0,0,1}}) ->"
                         "    curve_tun_flood_told ! {asked, self()}, receive never -> ok end;"
                         "verify(_, _, _) -> true."]),
    {Listener, Port, Server} = server(accept, [{registry, Registry}, {handshake_timeout, infinity}]),
    [{First, _}, {Second, _}] = asking(initiate, {127,0,0,1}, Port, 2),
    Callers = [receive {asked, Caller} -> Caller end || _ <- [1, 2]],
    leave(reset, First),
    [{Third, _}] = asking(initiate, {127,0,0,1}, Port, 1),
    leave(reset, Second),
    %% Both calls are busy until they are abandoned; then the third request gets one, and another
    %% address the other.
    [{Honest, Nif}] = asking(initiate, ?HONEST, Port, 1),
    send(Honest, Nif, <<"honest">>),
    ?assertEqual(<<"honest">>, message(Honest, Nif)),
    receive {asked, Last} -> ?assertNot(lists:member(Last, Callers)) end,
    %% One call is abandoned: its source has no turn, others have.
    leave(reset, Third),
    [{Fourth, _}] = asking(initiate, {127,0,0,1}, Port, 1),
    [{Honest2, Nif2}] = asking(initiate, ?HONEST, Port, 1),
    send(Honest2, Nif2, <<"honest">>),
    ?assertEqual(<<"honest">>, message(Honest2, Nif2)),
    receive {asked, _} -> ok end,
    true = unregister(curve_tun_flood_told),
    unlink(Server),
    ok = curve_tun:close(Listener),
    _ = [gen_tcp:close(Tcp) || Tcp <- [Honest, Honest2, Fourth]],
    settled(Before).

max_concurrency_are_what_the_provider_says(_) ->
    {Listener, Port} = listen([{registry, provider(curve_tun_flood_three, ["max_concurrency() -> 3.",
                                    "verify(_, _) -> curve_tun_flood_SUITE:meet(3)."])}]),
    true = 3 =:= met(Listener, Port, 12),
    %% The module names no number, and there is no process that answers one call after another.
    {Listener2, Port2} = listen([{registry, provider(curve_tun_flood_many,
                                    ["verify(_, _) -> curve_tun_flood_SUITE:meet(12)."])}]),
    true = 12 =:= met(Listener2, Port2, 12),
    %% A module that has a process is called once at a time.
    {Listener3, Port3} = listen([{registry, provider(curve_tun_flood_one, ["verify(_, _) -> curve_tun_flood_SUITE:meet(1).",
                                    "start_link() -> ignore."])}]),
    true = 1 =:= met(Listener3, Port3, 12).

%% Waits until this many callers are here at once, or have been; returns true, as a registry does.
meet(Count) ->
    Counters = persistent_term:get(?MODULE),
    counters:add(Counters, 1, 1),
    Here = counters:get(Counters, 1),
    counters:put(Counters, 2, max(Here, counters:get(Counters, 2))),
    until(fun() -> counters:get(Counters, 2) >= Count end),
    counters:sub(Counters, 1, 1),
    true.

%% Returns the maximum of concurrent calls for this many clients.
met(Listener, Port, Count) ->
    persistent_term:put(?MODULE, counters:new(2, [])),
    Acceptor = spawn_link(fun() -> serve(accept, Listener) end),
    Clients = [spawn_monitor(fun() ->
                   {ok, Socket} = connect(Port),
                   ok = curve_tun:send(Socket, <<"1">>),
                   <<"1">> = curve_tun:recv(Socket, ?PATIENCE)
               end) || _ <- lists:seq(1, Count)],
    over(Clients),
    unlink(Acceptor),
    ok = curve_tun:close(Listener),
    counters:get(persistent_term:get(?MODULE), 2).

a_provider_that_says_nonsense_is_refused(_) ->
    Whole = ["public_key() -> <<9:256/little>>.", "box(_, _, _) -> <<>>.", "box_open(_, _, _) -> {error, failed_verification}.",
             "safe_nonce() -> <<>>.", "verify(_, _) -> false."],
    [begin
         Bad = provider(curve_tun_flood_bad, ["max_concurrency() -> " ++ Says ++ "." | Whole]),
         ?assertEqual({error, registry_failed}, curve_tun:listen(0, [{registry, Bad}])),
         ?assertEqual({error, vault_failed}, curve_tun:listen(0, [{vault, Bad}])),
         ?assertEqual({error, vault_failed}, connect(1, [{vault, Bad}]))
     end || Says <- ["0", "-1", "many", "1.0", "error(told_to)"]],
    Slow = provider(curve_tun_flood_bad, ["max_concurrency() -> receive never -> ok end." | Whole]),
    ?assertEqual({error, timeout}, curve_tun:listen(0, [{registry, Slow}, {handshake_timeout, 100}])),
    ?assertEqual({error, timeout}, connect(1, [{vault, Slow}, {handshake_timeout, 100}])).

%% No calling or waiting process is left, not even one whose client has left before.
the_application_stops_while_it_asks(_) ->
    true = register(curve_tun_flood_told, self()),
    Registry = provider(curve_tun_flood_hangs,
                        ["max_concurrency() -> 2.",
                         "verify(_, _) -> curve_tun_flood_told ! {asked, self()}, receive never -> ok end."]),
    {_, Port, Server} = server(accept, [{registry, Registry}, {handshake_timeout, infinity}]),
    [{Left, _} | Clients] = asking(initiate, {127,0,0,1}, Port, 4),
    Callers = [receive {asked, Caller} -> Caller end || _ <- [1, 2]],
    leave(reset, Left),
    Monitors = [monitor(process, Caller) || Caller <- Callers],
    curve_tun_test:stop(),
    [receive {'DOWN', Ref, process, _, _} -> ok end || Ref <- Monitors],
    Initial = [initial_call(Pid) || Pid <- processes()],
    ?assertNot(lists:member({curve_tun_provider, answer_of, 3}, Initial)),
    true = unregister(curve_tun_flood_told),
    unlink(Server),
    _ = [gen_tcp:close(Tcp) || {Tcp, _} <- Clients],
    ok = curve_tun_test:start().

initial_call(Pid) ->
    case process_info(Pid, initial_call) of
        {initial_call, Call} -> Call;
        undefined -> gone
    end.

turns_outlive_a_crash(_) ->
    {Listener, Port, Server} = server(accept, [{registry, curve_tun_test_serial}, {handshake_timeout, infinity}]),
    ok = sys:suspend(curve_tun_test_serial),
    [{Begun, Nif}, {Waits, _}] = asking(initiate, {127,0,0,1}, Port, 2),
    Turns = whereis(curve_tun_fair_queue),
    until(fun() -> length([P || P <- processes(), {monitors, M} <- [process_info(P, monitors)],
                                lists:member({process, {curve_tun_fair_queue, node()}}, M)]) >= 1 end),
    exit(Turns, kill),
    _ = raw_closed(Waits),
    ok = sys:resume(curve_tun_test_serial),
    send(Begun, Nif, <<"1">>),
    ?assertEqual(<<"1">>, message(Begun, Nif)),
    until(fun() -> is_pid(whereis(curve_tun_fair_queue)) end),
    [{Next, Nif2}] = asking(initiate, {127,0,0,1}, Port, 1),
    send(Next, Nif2, <<"2">>),
    ?assertEqual(<<"2">>, message(Next, Nif2)),
    _ = [gen_tcp:close(Tcp) || Tcp <- [Begun, Waits, Next]],
    unlink(Server),
    ok = curve_tun:close(Listener).
