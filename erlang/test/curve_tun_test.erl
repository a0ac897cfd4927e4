%%% Shared by the suites: pairs of sockets, raw peers, waiting, counting.
-module(curve_tun_test).

-export([start/0, start/1, stop/0, listen/0, listen/1, pair/0, pair/1, pair/2, connect/1, connect/2, stop_pair/1]).
-export([raw_connect/1, raw_client/1, raw_send/2, raw_closed/1, frame/1]).
-export([until/1, until/2, count/0, settled/1, tcp_socket/1, sender/1, message/1, no_message/0, flush/0, forward_log/1]).
-export([lacks/1, in_a_node/3, in_a_node/4, outcome/3]).

-include_lib("stdlib/include/assert.hrl").

-define(PATIENCE, 10000).
%% A function run in a separate node ends within this time.
-define(NODE_PATIENCE, 150000).

%% Starts the application with default providers; holders of its key may come in from this machine.
start() ->
    start([]).

start(Env) ->
    _ = application:load(curve_tun),
    _ = [ok = application:set_env(curve_tun, Key, Value) || {Key, Value} <- Env],
    {ok, _} = application:ensure_all_started(curve_tun),
    {ok, Key} = curve_tun:public_key(),
    ok = curve_tun_simple_registry:register({127,0,0,1}, Key),
    ok = curve_tun_simple_registry:register({0,0,0,0,0,0,0,1}, Key),
    ok.

stop() ->
    _ = application:stop(curve_tun),
    _ = application:unload(curve_tun),
    ok.

%% Returns the result of a test on a machine that lacks something: it fails, or is skipped if
%% TESTS_WITHOUT names that (tests/support/needs.rs).
lacks(Name) ->
    case lists:member(Name, string:lexemes(os:getenv("TESTS_WITHOUT", ""), ", ")) of
        true -> {skip, "there is no " ++ Name};
        false -> ct:fail("this test needs ~s; TESTS_WITHOUT=~s leaves it out", [Name, Name])
    end.

%% Runs a function in a separate node, where it must return ok.
in_a_node(Module, Function, Arguments) ->
    in_a_node(Module, Function, Arguments, folder_of(curve_tun)).

%% The same, with the application's modules from this folder.
in_a_node(Module, Function, Arguments, Ebin) ->
    {ok, Node, _} = peer:start_link(#{connection => standard_io, args => ["-pa", Ebin, "-pa", folder_of(?MODULE)]}),
    ?assertEqual(ok, peer:call(Node, ?MODULE, outcome, [Module, Function, Arguments], ?NODE_PATIENCE)),
    peer:stop(Node).

folder_of(Module) ->
    {_, _, Beam} = code:get_object_code(Module),
    filename:dirname(filename:absname(Beam)).

%% In that node: the details of a failure would be lost on the way, including those of a process
%% that takes this one down.
outcome(Module, Function, Arguments) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({said, attempt(Module, Function, Arguments)}) end),
    receive
        {'DOWN', Ref, process, Pid, {said, Said}} -> Said;
        {'DOWN', Ref, process, Pid, Why} -> {died, Why}
    end.

attempt(Module, Function, Arguments) ->
    try apply(Module, Function, Arguments)
    catch Class:Reason:Stack -> {Class, Reason, Stack}
    end.

listen() ->
    listen([]).

listen(Options) ->
    {ok, Listener} = curve_tun:listen(0, [{ip, {127,0,0,1}} | Options]),
    {ok, {_, Port}} = curve_tun:sockname(Listener),
    {Listener, Port}.

connect(Port) ->
    connect(Port, []).

connect(Port, Options) ->
    {ok, Key} = curve_tun:public_key(),
    curve_tun:connect({127,0,0,1}, Port, [{key, Key} | Options], ?PATIENCE).

%% Returns a connected pair whose controller is the caller.
pair() ->
    pair([], []).

pair(Options) ->
    pair(Options, Options).

pair(ClientOptions, ServerOptions) ->
    {Listener, Port} = listen(ServerOptions),
    Caller = self(),
    Acceptor = spawn_link(fun() ->
                   {ok, Server} = curve_tun:accept(Listener, ?PATIENCE),
                   ok = curve_tun:controlling_process(Server, Caller),
                   Caller ! {self(), Server}
               end),
    {ok, Client} = connect(Port, ClientOptions),
    receive {Acceptor, Server} -> ok end,
    ok = curve_tun:close(Listener),
    {Client, Server}.

stop_pair({A, B}) ->
    ok = curve_tun:close(A),
    ok = curve_tun:close(B).

%% Returns a peer that speaks the protocol through the NIF over a plain socket, and can misbehave.
raw_connect(Port) ->
    {ok, Tcp} = gen_tcp:connect({127,0,0,1}, Port, [binary, {packet, raw}, {active, false}, {nodelay, true}]),
    Tcp.

raw_client(Port) ->
    Tcp = raw_connect(Port),
    {ok, Key} = curve_tun:public_key(),
    {ok, Vault} = curve_tun_vault_nif:handle(),
    Nif = curve_tun_nif:connection_new(),
    {ok, Hello} = curve_tun_nif:begin_client(Nif, Vault, Key),
    ok = gen_tcp:send(Tcp, Hello),
    {ok, Cookie} = gen_tcp:recv(Tcp, 2 + 168, ?PATIENCE),
    {ok, connected, Initiate, <<>>, none} = curve_tun_nif:handshake(Nif, Cookie),
    ok = gen_tcp:send(Tcp, Initiate),
    ok = curve_tun_nif:established(Nif, 0),
    {Tcp, Nif, {Hello, Initiate}}.

%% Sends messages as a well-behaved peer would, and returns the bytes.
raw_send({Tcp, Nif, _}, Messages) ->
    {ok, Frames, []} = curve_tun_nif:seal(Nif, Messages),
    ok = gen_tcp:send(Tcp, Frames),
    ok = curve_tun_nif:written(Nif),
    Frames.

%% Waits until the other end has closed; returns what it sent before.
raw_closed(Tcp) ->
    raw_closed(Tcp, <<>>).

raw_closed(Tcp, Acc) ->
    case gen_tcp:recv(Tcp, 0, ?PATIENCE) of
        {ok, Bytes} -> raw_closed(Tcp, <<Acc/binary, Bytes/binary>>);
        {error, Reason} when Reason =:= closed; Reason =:= econnreset -> Acc
    end.

frame(Packet) ->
    <<(byte_size(Packet)):16, Packet/binary>>.

%% Returns the process that sends for a connection, or none.
sender(Connection) ->
    {links, Links} = process_info(Connection, links),
    Is = fun(Pid) ->
             is_pid(Pid) andalso case process_info(Pid, dictionary) of
                 {dictionary, D} -> lists:member({'$initial_call', {curve_tun_sender, init, 1}}, D);
                 undefined -> false
             end
         end,
    case lists:filter(Is, Links) of
        [Sender] -> Sender;
        [] -> none
    end.

%% Waits until the function returns true.
until(Condition) ->
    until(Condition, ?PATIENCE).

until(Condition, Patience) ->
    case Condition() of
        true -> ok;
        _ when Patience > 0 -> timer:sleep(10), until(Condition, Patience - 10);
        Last -> ct:fail({never, Last})
    end.

%% Returns how many processes, ports, and connections there are.
count() ->
    {length(processes()), length(erlang:ports()),
     proplists:get_value(active, supervisor:count_children(curve_tun_connection_sup))}.

%% Waits until there are no more than before.
settled({Processes, Ports, Connections} = Before) ->
    until(fun() ->
              {P, O, C} = Now = count(),
              (P =< Processes andalso O =< Ports andalso C =< Connections) orelse {Before, Now}
          end).

tcp_socket({curve_tun_socket, Connection, _, _}) ->
    {ok, Tcp} = curve_tun_request:call(Connection, socket),
    Tcp.

%% Returns the next message of a socket to this process, without the socket.
message(Socket) ->
    receive
        {curve_tun, Socket, Message} -> Message;
        {curve_tun_passive, Socket} -> passive;
        {curve_tun_end, Socket} -> the_end;
        {curve_tun_error, Socket, Reason} -> {error, Reason};
        {curve_tun_closed, Socket} -> closed
    after ?PATIENCE -> ct:fail({no_message, process_info(self(), messages)})
    end.

%% Checks that the mailbox is empty, also after other processes had a chance to run.
no_message() ->
    receive Message -> ct:fail({unexpected, Message})
    after 50 -> ok
    end.

flush() ->
    receive _ -> flush() after 0 -> ok end.

%% Has log events of a level sent to this process.
forward_log(Level) ->
    Id = list_to_atom("forward_" ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = logger:set_primary_config(level, Level),
    ok = logger:add_handler(Id, curve_tun_test_log, #{level => Level, config => #{to => self()}}),
    Id.
