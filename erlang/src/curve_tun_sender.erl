%%% @private
%%% The sending side of a connection: a process of its own, so that a peer that does not read keeps nobody from
%%% receiving.
%%%
%%% Requests that have piled up are served together: one call of the NIF seals them, one write sends them.
-module(curve_tun_sender).

-export([start_link/1, send/2, wait/1, connected/4, controller/2, stop/1]).
-export([init/2, idle/1]).
-export([system_continue/3, system_terminate/4, system_code_change/4]).

-record(sender, {
    connection :: pid(),
    controller :: pid(),
    socket :: gen_tcp:socket() | undefined,
    nif :: curve_tun_nif:connection() | undefined,
    %% What a request is refused with; `open' if none is.
    gate = wrong_state :: open | wrong_state | closed | atom(),
    %% Whether the kernel took nothing of a full queue: see `pace/2'.
    stuck = false :: boolean()
}).

%% How much is collected at most before it is sealed, in messages and in bytes.
-define(BATCH_MESSAGES, 512).
-define(BATCH_BYTES, 131072).
%% Large writes wait while more than this is queued and the kernel takes some, looking again each millisecond; a peer
%% that takes nothing for so many milliseconds is not reading, and the queue may fill.
-define(QUEUED, 1048576).
-define(PATIENCE, 20).
-define(LARGE, 32768).
%% After this many idle milliseconds the process gives its heap back.
-define(IDLE, 1000).

-spec start_link(pid()) -> {ok, pid()}.
start_link(Controller) ->
    proc_lib:start_link(?MODULE, init, [self(), Controller]).

%% Sends messages, binaries of a valid size, in order.
-spec send(pid(), [binary()]) -> ok | {error, atom()}.
send(Sender, Messages) ->
    Ref = monitor(process, Sender, [{alias, reply_demonitor}]),
    Sender ! {send, Ref, Messages},
    ?MODULE:wait(Ref).

%% Waits as long as it takes, and takes up new code of this module meanwhile.
-spec wait(reference()) -> ok | {error, atom()}.
wait(Ref) ->
    receive
        {Ref, Reply} -> Reply;
        {'DOWN', Ref, process, _, _} -> {error, closed}
    after ?IDLE ->
        ?MODULE:wait(Ref)
    end.

%% The handshake is over.
-spec connected(pid(), gen_tcp:socket(), curve_tun_nif:connection(), pid()) -> ok.
connected(Sender, Socket, Nif, Controller) ->
    Sender ! {connected, Socket, Nif, Controller},
    ok.

-spec controller(pid(), pid()) -> ok.
controller(Sender, Controller) ->
    Sender ! {controller, Controller},
    ok.

%% Refuses all that is not sent yet.
-spec stop(pid()) -> ok.
stop(Sender) ->
    Sender ! stop,
    ok.

-spec init(pid(), pid()) -> no_return().
init(Connection, Controller) ->
    process_flag(trap_exit, true),
    proc_lib:init_ack({ok, self()}),
    idle(#sender{connection = Connection, controller = Controller}).

-spec idle(#sender{}) -> no_return().
idle(#sender{connection = Connection} = S) ->
    receive
        {send, Ref, Messages} -> ?MODULE:idle(serve(Ref, Messages, S));
        {connected, Socket, Nif, Controller} ->
            ?MODULE:idle(S#sender{socket = Socket, nif = Nif, controller = Controller, gate = open});
        {controller, Controller} -> ?MODULE:idle(S#sender{controller = Controller});
        stop -> ?MODULE:idle(S#sender{gate = closed});
        {'EXIT', Connection, Reason} -> connection_ended(Reason, S);
        {system, From, Request} -> sys:handle_system_msg(Request, From, Connection, ?MODULE, [], S);
        _ -> ?MODULE:idle(S)
    after ?IDLE ->
        proc_lib:hibernate(?MODULE, idle, [S])
    end.

-spec serve(reference(), [binary()], #sender{}) -> #sender{}.
serve(Ref, Messages, #sender{gate = open} = S) ->
    {Refs, Batch} = collect([Ref], [Messages], length(Messages), bytes(Messages)),
    {Reply, Next} = write(Batch, S),
    _ = [R ! {R, Reply} || R <- Refs],
    Next;
serve(Ref, _Messages, #sender{gate = Reason} = S) ->
    Ref ! {Ref, {error, Reason}},
    S.

%% Takes what other senders have asked for in the meantime.
-spec collect([reference()], [[binary()]], non_neg_integer(), non_neg_integer()) -> {[reference()], [binary()]}.
collect(Refs, Lists, Count, Bytes) when Count < ?BATCH_MESSAGES, Bytes < ?BATCH_BYTES ->
    receive
        {send, Ref, [_] = Messages} ->
            collect([Ref | Refs], [Messages | Lists], Count + 1, Bytes + bytes(Messages));
        {send, Ref, Messages} ->
            collect([Ref | Refs], [Messages | Lists], Count + length(Messages), Bytes + bytes(Messages))
    after 0 ->
        {Refs, in_order(Lists)}
    end;
collect(Refs, Lists, _Count, _Bytes) ->
    {Refs, in_order(Lists)}.

-spec in_order([[binary()]]) -> [binary()].
in_order([Messages]) -> Messages;
in_order(Lists) -> lists:append(lists:reverse(Lists)).

-spec bytes([binary()]) -> non_neg_integer().
bytes([Message]) -> byte_size(Message);
bytes(Messages) -> lists:foldl(fun(Message, Sum) -> byte_size(Message) + Sum end, 0, Messages).

-spec write([binary()], #sender{}) -> {ok | {error, atom()}, #sender{}}.
write([], S) ->
    {ok, S};
write(Messages, #sender{nif = Nif, socket = Socket} = S) ->
    case curve_tun_nif:seal(Nif, Messages) of
        {ok, Frames, Rest} ->
            case gen_tcp:send(Socket, Frames) of
                ok -> write(Rest, pace(byte_size(Frames), S));
                {error, Reason} -> fail(reason(Reason), S)
            end;
        {error, Reason, Frames, _Sealed} ->
            _ = gen_tcp:send(Socket, Frames),
            fail(Reason, S)
    end.

%% The queue of a socket can hold much, for two peers that both speak before they read. A fast writer would always have
%% it full, and all its bytes would come from memory that no cache holds any more.
-spec pace(non_neg_integer(), #sender{}) -> #sender{}.
pace(Size, S) when Size < ?LARGE ->
    S;
pace(_Size, #sender{socket = Socket, stuck = Stuck} = S) ->
    case queued(Socket) of
        Queued when Queued < ?QUEUED -> S#sender{stuck = false};
        _ when Stuck -> S;
        Queued -> S#sender{stuck = not drains(Socket, Queued, ?PATIENCE)}
    end.

-spec drains(gen_tcp:socket(), non_neg_integer(), non_neg_integer()) -> boolean().
drains(_Socket, _Before, 0) ->
    false;
drains(Socket, Before, Patience) ->
    timer:sleep(1),
    case queued(Socket) of
        Queued when Queued < ?QUEUED -> true;
        Queued when Queued < Before -> drains(Socket, Queued, ?PATIENCE);
        Queued -> drains(Socket, Queued, Patience - 1)
    end.

-spec queued(gen_tcp:socket()) -> non_neg_integer().
queued(Socket) ->
    case inet:getstat(Socket, [send_pend]) of
        {ok, [{send_pend, Queued}]} -> Queued;
        {error, _} -> 0
    end.

%% A packet that was sent in part cannot be resumed, so every failure ends the connection.
-spec fail(atom(), #sender{}) -> {{error, atom()}, #sender{}}.
fail(Reason, #sender{connection = Connection} = S) ->
    curve_tun_connection:send_failed(Connection, Reason),
    {{error, Reason}, S#sender{gate = closed}}.

-spec reason(term()) -> atom().
reason(timeout) -> timeout;
reason({timeout, _}) -> timeout;
reason(_) -> closed.

%% The connection process is gone. If it did not go in order, nobody else is left to tell the controller.
-spec connection_ended(term(), #sender{}) -> no_return().
connection_ended(Reason, _S) when Reason =:= normal; Reason =:= shutdown ->
    exit(normal);
connection_ended({shutdown, _}, _S) ->
    exit(normal);
connection_ended(_Reason, #sender{connection = Connection, controller = Controller}) ->
    Socket = curve_tun_connection:socket(Connection, self()),
    Controller ! {curve_tun_error, Socket, crashed},
    Controller ! {curve_tun_closed, Socket},
    exit(normal).

-spec system_continue(pid(), [sys:debug_option()], #sender{}) -> no_return().
system_continue(_Parent, _Debug, S) -> idle(S).

-spec system_terminate(term(), pid(), [sys:debug_option()], #sender{}) -> no_return().
system_terminate(Reason, _Parent, _Debug, _S) -> exit(Reason).

-spec system_code_change(#sender{}, module(), term(), term()) -> {ok, #sender{}}.
system_code_change(S, _Module, _OldVsn, _Extra) -> {ok, S}.
