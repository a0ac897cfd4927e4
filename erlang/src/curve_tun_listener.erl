%%% @private
%%% A listener: owns the listening socket and the queue of processes that accept.
%%%
%%% While a process waits, clients are taken from the backlog and their handshakes run side by side,
%%% so that a slow or silent client delays nobody; the first to finish goes to the process that has
%%% waited longest. From then on until its handshake is over a client holds a permit for a handshake
%%% in flight, even if it went to `transport_accept'. The NIF hands the permits out. At the limits
%%% it evicts another handshake, and the new client waits until that one is gone.
-module(curve_tun_listener).
-behaviour(gen_server).

-export([start/2, start_link/1, accept/3, took/3, call/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, code_change/3, format_status/1]).
-export([acceptor/2]).
-export_type([start/0]).

-type start() :: #{socket := gen_tcp:socket(), owner := pid(), options := curve_tun_options:options()}.

-record(waiter, {from :: gen_server:from(), kind :: accept | transport, monitor :: reference(),
                 timer :: reference() | none, deadline :: curve_tun_time:deadline()}).

-record(listener, {
    start :: start(),
    owner :: reference(),
    %% Made in this process: see `curve_tun_connection:prepare()'.
    prepared :: curve_tun_connection:prepared() | undefined,
    cookie = none :: reference() | none,
    %% Takes one client from the backlog.
    acceptor :: pid() | undefined,
    %% Set after a failure such as emfile: the next try comes after the pause.
    paused = false :: boolean(),
    waiters = queue:new() :: queue:queue(#waiter{}),
    %% Handshakes in flight: for processes that accept, or for the one that took the transport.
    in_flight = #{} :: #{pid() => curve_tun:socket() | transport},
    %% A client whose handshake has not begun: it has no permit yet, or waits until the handshakes
    %% that were evicted for it are gone.
    held = none :: {pid(), curve_tun:socket(), inet:ip_address() | {evicted, [pid()]}} | none,
    %% Connected, and not yet accepted.
    done = queue:new() :: queue:queue({pid(), curve_tun:socket()})
}).

%% The pause after a failure to accept.
-define(PAUSE, 100).
%% Words of the heap of a process that accepts one client: enough for all its work.
-define(HEAP, 987).

%% Starts a listener owned by the caller, over a gen_tcp socket of the caller.
-spec start(gen_tcp:socket(), curve_tun_options:options()) -> {ok, curve_tun:listen_socket()} | {error, term()}.
start(Socket, Options) ->
    case curve_tun_listener_sup:start_child(#{socket => Socket, owner => self(), options => Options}) of
        {ok, Listener} ->
            case prepare(gen_tcp:controlling_process(Socket, Listener), Listener) of
                ok ->
                    {ok, {curve_tun_listen_socket, Listener}};
                {error, Reason} ->
                    _ = call(Listener, close),
                    {error, Reason}
            end;
        {error, Reason} ->
            gen_tcp:close(Socket),
            {error, Reason}
    end.

-spec prepare(ok | {error, term()}, pid()) -> ok | {error, term()}.
prepare(ok, Listener) -> call(Listener, prepare);
prepare({error, Reason}, _Listener) -> {error, Reason}.

-spec start_link(start()) -> {ok, pid()} | {error, term()}.
start_link(Start) ->
    case gen_server:start_link(?MODULE, Start, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% Nothing is sent to a process before it takes its connection, since it may have stopped waiting.
-spec accept(pid(), accept | transport, timeout()) -> {ok, curve_tun:socket()} | {error, atom()}.
accept(Listener, Kind, Timeout) ->
    Deadline = curve_tun_time:deadline(Timeout),
    curve_tun_call:call(Listener, {Kind, Timeout}, [{fun ?MODULE:took/3, [Listener, {Kind, Deadline}]}]).

%% After the wait: takes the connection that the listener offered.
-spec took(pid(), {accept | transport, curve_tun_time:deadline()}, {ok, curve_tun:socket()} | {error, atom()}) ->
          {ok, curve_tun:socket()} | {error, atom()}.
took(Listener, {Kind, Deadline}, {ok, {curve_tun_socket, Connection, _, _} = Socket}) ->
    case curve_tun_request:take(Connection) of
        ok -> {ok, Socket};
        %% It ended meanwhile.
        {error, _} -> accept(Listener, Kind, curve_tun_time:left(Deadline))
    end;
took(_Listener, _Call, {error, Reason}) ->
    {error, Reason}.

-spec call(pid(), term()) -> term().
call(Listener, Request) ->
    curve_tun_call:call(Listener, Request).

-spec init(start()) -> {ok, #listener{}}.
init(#{owner := Owner} = Start) ->
    process_flag(trap_exit, true),
    {ok, #listener{start = Start, owner = monitor(process, Owner)}}.

-spec terminate(term(), #listener{}) -> ok.
terminate(_Reason, #listener{start = #{socket := Socket}, waiters = Waiters, acceptor = Acceptor}) ->
    _ = Acceptor =:= undefined orelse exit(Acceptor, kill),
    _ = [answer(Waiter, {error, closed}) || Waiter <- queue:to_list(Waiters)],
    gen_tcp:close(Socket).

-spec code_change(term(), #listener{}, term()) -> {ok, #listener{}}.
code_change(_OldVsn, S, _Extra) ->
    {ok, S}.

-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    curve_tun_log:status(state, fun shown/1, Status).

-spec shown(#listener{}) -> map().
shown(#listener{start = #{socket := Socket}, in_flight = InFlight, waiters = Waiters}) ->
    #{socket => Socket, in_flight => map_size(InFlight), waiters => queue:len(Waiters)}.

-spec handle_call(term(), gen_server:from(), #listener{}) -> {noreply, #listener{}} | {reply, term(), #listener{}} |
          {stop, normal, ok, #listener{}}.
handle_call(prepare, _From, #listener{start = #{socket := Socket, options := Options}, prepared = undefined} = S) ->
    case curve_tun_endpoint:server(Options, infinity) of
        {ok, Prepared} ->
            ok = curve_tun_log:label({curve_tun_listener, inet:sockname(Socket)}),
            {reply, ok, watch(S#listener{prepared = Prepared})};
        {error, Reason} ->
            {reply, {error, Reason}, S}
    end;
handle_call({Kind, Timeout}, {Pid, _} = From, #listener{waiters = Waiters} = S)
  when Kind =:= accept; Kind =:= transport ->
    Monitor = monitor(process, Pid),
    Timer = case Timeout of
                infinity -> none;
                _ -> erlang:start_timer(Timeout, self(), waiter)
            end,
    Waiter = #waiter{from = From, kind = Kind, monitor = Monitor, timer = Timer,
                     deadline = curve_tun_time:deadline(Timeout)},
    {noreply, work(S#listener{waiters = queue:in(Waiter, Waiters)})};
handle_call(socket, _From, #listener{start = #{socket := Socket}} = S) ->
    {reply, {ok, Socket}, S};
handle_call({controlling_process, New}, {Pid, _}, #listener{start = #{owner := Pid} = Start, owner = Ref} = S) ->
    demonitor(Ref, [flush]),
    {reply, ok, S#listener{start = Start#{owner => New}, owner = monitor(process, New)}};
handle_call({controlling_process, _}, _From, S) ->
    {reply, {error, not_owner}, S};
handle_call(close, _From, S) ->
    {stop, normal, ok, S};
handle_call(_Call, _From, S) ->
    {reply, {error, badarg}, S}.

-spec handle_cast(term(), #listener{}) -> {noreply, #listener{}} | {stop, normal, #listener{}}.
handle_cast(reloaded, #listener{prepared = #{role := {server, Server}}} = S) ->
    case curve_tun_handles:is_current(Server) of
        true -> {noreply, S};
        false -> {stop, normal, S}
    end;
handle_cast(_Cast, S) ->
    {noreply, S}.

-spec handle_info(term(), #listener{}) -> {noreply, #listener{}} | {stop, normal, #listener{}}.
handle_info({accepted, Pid, Socket, Address}, S) ->
    _ = monitor(process, Pid),
    {noreply, work(S#listener{acceptor = undefined, held = {Pid, Socket, Address}})};
handle_info({accept_failed, Reason}, S) ->
    not_accepted(Reason, S#listener{acceptor = undefined});
handle_info({handshake_over, Pid}, S) ->
    {noreply, work(handshake_over(Pid, S))};
handle_info({timeout, _, resume}, S) ->
    {noreply, work(S#listener{paused = false})};
handle_info({timeout, _, watch}, S) ->
    {noreply, watch(S)};
handle_info({timeout, Timer, waiter}, S) ->
    {noreply, drop_waiters(fun(#waiter{timer = T}) -> T =:= Timer end, {error, timeout}, S)};
handle_info({'DOWN', Ref, process, _, _}, #listener{owner = Ref} = S) ->
    {stop, normal, S};
handle_info({'DOWN', Ref, process, _, _}, #listener{cookie = Ref} = S) ->
    {noreply, watch(S)};
handle_info({'DOWN', Ref, process, Pid, _}, S) ->
    {noreply, work(down(Ref, Pid, S))};
%% It ended without a message.
handle_info({'EXIT', Acceptor, _}, #listener{acceptor = Acceptor} = S) ->
    {stop, normal, S};
handle_info({'EXIT', Socket, _}, #listener{start = #{socket := Socket}} = S) ->
    {stop, normal, S};
handle_info(_Info, S) ->
    {noreply, S}.

%% Has the minute keys rotated. The process that does so may be restarting.
-spec watch(#listener{}) -> #listener{}.
watch(#listener{prepared = #{role := {server, Server}}} = S) ->
    case curve_tun_cookie:watch(Server) of
        {ok, Pid} ->
            S#listener{cookie = monitor(process, Pid)};
        {error, closed} ->
            _ = erlang:start_timer(?PAUSE, self(), watch),
            S#listener{cookie = none}
    end.

%% Does everything possible now: hands over connected clients, starts the held one, takes the next.
-spec work(#listener{}) -> #listener{}.
work(S) ->
    accept_more(start_held(hand_over(S))).

-spec hand_over(#listener{}) -> #listener{}.
hand_over(#listener{done = Done} = S) ->
    case {queue:out(Done), take_waiter(accept, S)} of
        {{{value, {Pid, Socket}}, Rest}, {Waiter, Next}} ->
            case offer(Pid, Waiter) of
                ok -> answer(Waiter, {ok, Socket}), hand_over(Next#listener{done = Rest});
                %% It ended meanwhile.
                {error, closed} -> hand_over(S#listener{done = Rest})
            end;
        _ ->
            S
    end.

-spec offer(pid(), #waiter{}) -> ok | {error, closed}.
offer(Pid, #waiter{from = {Caller, _}}) ->
    curve_tun_request:offer(Pid, Caller).

%% Returns the first waiter of a kind, and the listener without it.
-spec take_waiter(accept | transport, #listener{}) -> {#waiter{}, #listener{}} | none.
take_waiter(Kind, #listener{waiters = Waiters} = S) ->
    case lists:splitwith(fun(#waiter{kind = K}) -> K =/= Kind end, queue:to_list(Waiters)) of
        {_, []} -> none;
        {Before, [Waiter | After]} -> {Waiter, S#listener{waiters = queue:from_list(Before ++ After)}}
    end.

-spec answer(#waiter{}, term()) -> ok.
answer(#waiter{from = From, monitor = Monitor, timer = Timer}, Reply) ->
    demonitor(Monitor, [flush]),
    _ = Timer =:= none orelse erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
    gen_server:reply(From, Reply).

-spec drop_waiters(fun((#waiter{}) -> boolean()), term(), #listener{}) -> #listener{}.
drop_waiters(Drop, Reply, #listener{waiters = Waiters} = S) ->
    Keep = fun(Waiter) ->
               case Drop(Waiter) of
                   true -> answer(Waiter, Reply), false;
                   false -> true
               end
           end,
    S#listener{waiters = queue:filter(Keep, Waiters)}.

%% Gets a permit for the held client if a process is waiting. The client then goes to the process
%% that does the handshake itself, or its handshake begins.
-spec start_held(#listener{}) -> #listener{}.
start_held(#listener{held = none} = S) ->
    S;
start_held(#listener{held = {Pid, Socket, {evicted, Others}}, in_flight = InFlight, waiters = Waiters} = S) ->
    case queue:is_empty(Waiters) orelse lists:any(fun(Other) -> is_map_key(Other, InFlight) end, Others) of
        true -> S;
        false -> start(Pid, Socket, take_waiter(transport, S), S#listener{held = none})
    end;
start_held(#listener{held = {Pid, Socket, Address}, waiters = Waiters} = S) ->
    case queue:is_empty(Waiters) orelse permit(Pid, Socket, Address, S) of
        true ->
            S;
        {ok, Evicted} ->
            lists:foreach(fun(Other) -> curve_tun_request:refuse(Other, too_many_handshakes) end, Evicted),
            start_held(S#listener{held = {Pid, Socket, {evicted, Evicted}}});
        {error, Reason} ->
            curve_tun_request:refuse(Pid, Reason),
            S#listener{held = none}
    end.

%% The NIF may be another by now, or none: then we are about to end, and so is the client.
-spec permit(pid(), curve_tun:socket(), inet:ip_address(), #listener{}) -> {ok, [pid()]} | {error, atom()}.
permit(Pid, {curve_tun_socket, _, _, Nif}, Address, #listener{prepared = #{role := {server, Server}}}) ->
    try curve_tun_nif:begin_server(Nif, Server, Pid, Address)
    catch
        error:Reason when Reason =:= badarg; Reason =:= undef ->
            gen_server:cast(self(), reloaded),
            {error, closed}
    end.

-spec start(pid(), curve_tun:socket(), none | {#waiter{}, #listener{}}, #listener{}) -> #listener{}.
start(Pid, Socket, none, #listener{in_flight = InFlight} = S) ->
    curve_tun_request:handshake_for(Pid),
    S#listener{in_flight = InFlight#{Pid => Socket}};
start(Pid, Socket, {Waiter, #listener{waiters = Waiters}}, #listener{in_flight = InFlight} = S) ->
    case offer(Pid, Waiter) of
        ok ->
            answer(Waiter, {ok, Socket}),
            S#listener{waiters = Waiters, in_flight = InFlight#{Pid => transport}};
        %% It ended meanwhile, and its exit will be reported shortly.
        {error, closed} ->
            S
    end.

%% A client that comes when no process waits any more is held until one does.
-spec accept_more(#listener{}) -> #listener{}.
accept_more(#listener{acceptor = undefined, paused = false, held = none, start = #{socket := Socket}, waiters = Queue,
                      prepared = Prepared} = S) ->
    case queue:to_list(Queue) of
        [] ->
            S;
        Waiters ->
            Deadline = lists:max([D || #waiter{deadline = D} <- Waiters]),
            %% As with gen_tcp, a process that does the handshake itself also gets a client that has
            %% left.
            Whom = case lists:keymember(transport, #waiter.kind, Waiters) of true -> all; false -> present end,
            S#listener{acceptor = start_acceptor(Socket, curve_tun_time:left(Deadline), Whom, Prepared)}
    end;
accept_more(S) ->
    S.

-spec not_accepted(atom(), #listener{}) -> {noreply, #listener{}} | {stop, normal, #listener{}}.
not_accepted(timeout, S) ->
    {noreply, work(S)};
not_accepted(econnaborted, S) ->
    {noreply, work(S)};
not_accepted(Reason, S) when Reason =:= closed; Reason =:= einval ->
    {stop, normal, S};
%% Out of descriptors or memory: the process that has waited longest gets the error, and the next
%% try comes after a pause.
not_accepted(Reason, #listener{waiters = Waiters} = S) ->
    Rest = case queue:out(Waiters) of
               {{value, Waiter}, Others} -> answer(Waiter, {error, Reason}), Others;
               {empty, _} -> Waiters
           end,
    _ = erlang:start_timer(?PAUSE, self(), resume),
    {noreply, S#listener{waiters = Rest, paused = true}}.

%% A refused client is skipped: accepting processes get the next one.
-spec handshake_over(pid(), #listener{}) -> #listener{}.
handshake_over(Pid, #listener{in_flight = InFlight, done = Done} = S) ->
    case maps:take(Pid, InFlight) of
        {transport, Rest} -> S#listener{in_flight = Rest};
        {Socket, Rest} -> S#listener{in_flight = Rest, done = queue:in({Pid, Socket}, Done)};
        error -> S
    end.

-spec down(reference(), pid(), #listener{}) -> #listener{}.
down(Ref, Pid, #listener{in_flight = InFlight, held = Held, done = Done, waiters = Waiters} = S) ->
    S#listener{in_flight = maps:remove(Pid, InFlight),
               held = case Held of {Pid, _, _} -> none; _ -> Held end,
               done = queue:filter(fun({P, _}) -> P =/= Pid end, Done),
               waiters = queue:filter(fun(#waiter{monitor = M}) -> M =/= Ref end, Waiters)}.

%%% The process that blocks in gen_tcp:accept, inside code of OTP only: see curve_tun_call

-spec start_acceptor(gen_tcp:socket(), timeout(), all | present, curve_tun_connection:prepared()) -> pid().
start_acceptor(Socket, Timeout, Whom, Prepared) ->
    Steps = [{accept, Socket, Timeout}, {arrived, self(), Whom, Prepared}],
    spawn_opt(lists, foldl, [fun ?MODULE:acceptor/2, none, Steps], [link, {min_heap_size, ?HEAP}]).

-spec acceptor(tuple(), none | {ok, gen_tcp:socket()} | {error, atom()}) -> term().
acceptor({accept, Socket, Timeout}, none) ->
    gen_tcp:accept(Socket, Timeout);
acceptor({arrived, Listener, Whom, Prepared}, {ok, Client}) ->
    Listener ! arrived(Listener, Client, Whom, Prepared);
acceptor({arrived, Listener, _, _}, {error, Reason}) ->
    Listener ! {accept_failed, Reason}.

-spec arrived(pid(), gen_tcp:socket(), all | present, curve_tun_connection:prepared()) -> tuple().
arrived(Listener, Client, Whom, Prepared) ->
    case (Whom =:= present andalso has_left(Client)) orelse inet:peername(Client) of
        {ok, {Address, _} = Peer} ->
            attached(Listener, Client, Prepared#{peer => Peer, role := {server, permitted}}, Address);
        _ -> left(Client)
    end.

%% Says whether a client just accepted has already left. Such a client then costs no process, so
%% that a flood of them is soon dealt with. Linux reports it in the first byte of TCP_INFO, the
%% state of the connection, which is TCP_ESTABLISHED (1) if neither end has ended it (tcp(7));
%% elsewhere its handshake finds out.
-spec has_left(gen_tcp:socket()) -> boolean().
has_left(Client) ->
    case os:type() =:= {unix, linux} andalso inet:getopts(Client, [{raw, 6, 11, 1}]) of
        {ok, [{raw, 6, 11, <<State>>}]} -> State =/= 1;
        _ -> false
    end.

-spec attached(pid(), gen_tcp:socket(), curve_tun_connection:prepared(), inet:ip_address()) -> tuple().
attached(Listener, Client, Prepared, Address) ->
    case curve_tun_connection_sup:start_child(Listener) of
        {ok, Pid} ->
            case curve_tun_request:attach(Pid, Client, curve_tun_options:accepted_socket([]), Prepared) of
                {ok, Socket} ->
                    {accepted, Pid, Socket, Address};
                {error, _} ->
                    left(Client)
            end;
        {error, _} ->
            left(Client)
    end.

%% The client has already left, or cannot be handed over.
-spec left(gen_tcp:socket()) -> tuple().
left(Client) ->
    gen_tcp:close(Client),
    {accept_failed, econnaborted}.
