%%% @private
%%% Sending.
%%%
%%% The calling process seals its messages and writes the frames to the socket itself. Meanwhile it
%%% holds the writer lock (see `curve_tun_nif:seal/2'). Processes that find the lock taken, or send
%%% one message after another, have their messages written by a process of the connection, the
%%% sender. While the sender holds the lock they seal into its write queue and return; it writes at
%%% once whatever has been queued meanwhile. They wait only when the queue is full. The sender is
%%% started on demand, and ends when it is idle. The connection process itself never writes
%%% messages, so a peer that does not read never blocks receiving.
-module(curve_tun_sender).

-export([send_many/2, write_due/2, start_link/3, enqueue/3, finish/2, stop/1, look_again/1]).
-export([init/1, loop/2]).
-export([system_continue/3, system_terminate/4, system_code_change/4]).

%% What a writer needs to know.
-type writer() :: #{connection := pid(), tcp := gen_tcp:socket(),
                    nif := curve_tun_nif:connection(), _ => _}.

%% A map, since a sender is not suspended during a release upgrade: in the middle of its work it
%% continues with the code of another version, whose state has other fields.
-type sender() :: #{connection := pid(), tcp := gen_tcp:socket(),
                    nif := curve_tun_nif:connection(),
                    %% Requests of the connection so far, and the error that its write queue failed
                    %% with and nobody has been told of yet.
                    had := non_neg_integer(), result := ok | {error, atom()}, _ => _}.

%% Who asked the sender: a caller of the connection, or the connection.
-type asker() :: gen_statem:from() | reference().

%% A sender's initial state, apart from its connection.
-define(FRESH, #{had => 0, result => ok}).

-define(MESSAGE_MAX, 65503).
%% Limits of a batch before it is sealed, in messages and in bytes.
-define(BATCH_MESSAGES, 512).
-define(BATCH_BYTES, 131072).
%% After this many idle milliseconds the sender ends.
-define(IDLE, 1000).
%% The writer lock is held for this long after the last message, so that the next one only has to be
%% queued.
-define(KEEP, 2).

%%% For those who send

%% Sends messages in order if all of them are valid.
-spec send_many(curve_tun:socket(), [iodata()]) -> ok | {error, atom()}.
send_many(Socket, Messages) ->
    try messages(Messages) of
        Binaries -> send(Socket, Binaries)
    catch
        throw:emsgsize -> curve_tun_stream:send_large(Socket, Messages);
        throw:Reason -> {error, Reason}
    end.

%% Writes what the stream of the calling connection has to send. `busy' if another process writes.
-spec write_due(gen_tcp:socket(), curve_tun_nif:connection()) -> ok | busy | {error, atom()}.
write_due(Tcp, Nif) ->
    seal_and_write([], #{connection => self(), tcp => Tcp, nif => Nif}).

-spec messages([iodata()]) -> [binary()].
messages([]) -> [];
messages([Message | Rest]) -> [message(Message) | messages(Rest)];
messages(_) -> throw(badarg).

%% Makes one binary of valid size: larger ones are passed to the sender by reference, and iodata is
%% flattened once.
-spec message(iodata()) -> binary().
message(Message) when is_binary(Message), byte_size(Message) =< ?MESSAGE_MAX ->
    Message;
message(Message) when is_list(Message) ->
    try iolist_size(Message) of
        Size when Size =< ?MESSAGE_MAX -> iolist_to_binary(Message);
        _ -> throw(emsgsize)
    catch
        error:badarg -> throw(badarg)
    end;
message(Message) when is_binary(Message) ->
    throw(emsgsize);
message(_Message) ->
    throw(badarg).

-spec send(curve_tun:socket(), [binary()]) -> ok | {error, atom()}.
send({curve_tun_socket, Connection, Tcp, Nif}, Messages) when node(Connection) =:= node() ->
    try seal_and_write(Messages, #{connection => Connection, tcp => Tcp, nif => Nif}) of
        busy -> curve_tun_request:call(Connection, {send, Messages});
        Result -> Result
    catch
        error:Reason:Stack when Reason =:= badarg; Reason =:= undef ->
            case Stack of
                %% Another NIF was loaded meanwhile, or none: the connection belonged to the
                %% previous one.
                [{curve_tun_nif, _, _, _} | _] ->
                    curve_tun_request:reloaded(Connection),
                    {error, closed};
                _ ->
                    erlang:raise(error, Reason, Stack)
            end
    end;
send({curve_tun_socket, Connection, _, _}, Messages) ->
    curve_tun_request:call(Connection, {send, Messages}).

-spec seal_and_write([binary()], writer()) -> ok | busy | {error, atom()}.
seal_and_write(Messages, #{nif := Nif} = S) ->
    case curve_tun_nif:seal(Nif, Messages) of
        ok -> ok;
        busy -> busy;
        {error, Reason} -> {error, Reason};
        Sealed -> turn(Sealed, S)
    end.

-type sealed() :: {ok, Frames :: binary(), Rest :: [binary()]} | {error, atom(), Frames :: binary()}.

%% Writes under the writer lock, from the first seal on.
-spec turn(sealed(), writer()) -> ok | {error, atom()}.
turn(Sealed, S) ->
    Result = write(Sealed, S),
    end_turn(S),
    Result.

-spec end_turn(writer()) -> ok.
end_turn(#{nif := Nif, connection := Connection}) ->
    case curve_tun_nif:written(Nif) of
        ok -> ok;
        {next, Pid} -> Pid ! {turn, Connection}, ok
    end.

-spec write(sealed(), writer()) -> ok | {error, atom()}.
write({ok, Frames, Rest}, #{tcp := Tcp, nif := Nif} = S) ->
    case gen_tcp:send(Tcp, Frames) of
        ok ->
            case Rest =:= [] orelse curve_tun_nif:seal(Nif, Rest) of
                true -> ok;
                {error, Reason} -> {error, Reason};
                Sealed -> write(Sealed, S)
            end;
        {error, timeout} -> fail(timeout, S);
        {error, {timeout, _}} -> fail(timeout, S);
        {error, _} -> fail(closed, S)
    end;
write({error, Reason, Frames}, #{tcp := Tcp} = S) ->
    _ = gen_tcp:send(Tcp, Frames),
    fail(Reason, S).

%% A partly sent packet cannot be resumed, so every failure ends the connection.
-spec fail(atom(), writer()) -> {error, atom()}.
fail(Reason, #{nif := Nif, connection := Connection}) ->
    ok = curve_tun_nif:end_sending(Nif),
    curve_tun_request:send_failed(Connection, Reason),
    {error, Reason}.

%%% The sender

%% Starts the sender of the calling connection.
-spec start_link(pid(), gen_tcp:socket(), curve_tun_nif:connection()) -> pid().
start_link(Connection, Tcp, Nif) ->
    proc_lib:spawn_link(?MODULE, init, [?FRESH#{connection => Connection, tcp => Tcp, nif => Nif}]).

%% Has messages sent for a caller of the connection, which gets the reply, or for the connection
%% itself, which gets `{Reference, Reply}'.
-spec enqueue(pid(), asker(), [binary()]) -> ok.
enqueue(Sender, From, Messages) ->
    Sender ! {send, From, Messages},
    ok.

%% Has the sender end what is sent over a stream, after all that it was asked to send before.
-spec finish(pid(), reference()) -> ok.
finish(Sender, Ref) ->
    Sender ! {finish, Ref},
    ok.

%% Ends a sender that is idle.
-spec stop(pid()) -> ok.
stop(Sender) ->
    Sender ! stop,
    ok.

%% Has the sender of the calling connection check again who holds the writer lock. A holder from an
%% unloaded NIF would never release it.
-spec look_again(pid()) -> ok.
look_again(Sender) ->
    Sender ! {turn, self()},
    ok.

-spec init(sender()) -> no_return().
init(#{connection := Connection} = S) ->
    process_flag(trap_exit, true),
    %% One that ended before, in order, would not be heard of.
    is_process_alive(Connection) orelse exit(normal),
    ok = curve_tun_log:label({curve_tun_sender, maps:get(connection, S)}),
    loop(idle, S).

%% What to do next: wait, write the queued messages, or hold the writer lock for a moment.
-type next() :: idle | work | keep.

%% Re-raises a failure without the arguments and values in it, and without the mailbox: see
%% `curve_tun_log'. The state of another version enters here: missing fields are added, and unknown
%% ones stay, for the way back.
-spec loop(next(), map()) -> no_return().
loop(Next, #{connection := Connection, had := _, result := _} = S) ->
    try step(Next, S) of
        {system, From, Request} -> sys:handle_system_msg(Request, From, Connection, ?MODULE, [], S);
        {Then, NewS} -> ?MODULE:loop(Then, NewS)
    catch
        Class:Reason:Stack ->
            case Stack of
                [{curve_tun_nif, _, _, _} | _] when Reason =:= badarg; Reason =:= undef ->
                    ?MODULE:loop(idle, nif_is_gone(S));
                _ ->
                    curve_tun_log:forget_mailbox(),
                    erlang:raise(Class, curve_tun_log:reason(Reason), curve_tun_log:stack(Stack))
            end
    end;
loop(Next, #{connection := _} = S) ->
    loop(Next, maps:merge(?FRESH, S)).

%% Handles a NIF that was replaced or unloaded: the connection belonged to the previous one.
%% Processes that wait for the sender are told.
-spec nif_is_gone(sender()) -> sender().
nif_is_gone(#{connection := Connection} = S) ->
    curve_tun_request:reloaded(Connection),
    S#{result := {error, closed}}.

-type step() :: {next(), sender()} | {system, From :: term(), Request :: term()}.

-spec step(next(), sender()) -> step().
step(idle, #{connection := Connection, had := Had} = S) ->
    receive
        Message -> handle(Message, S)
    after ?IDLE ->
        %% The connection stops this process if these were all of its requests.
        curve_tun_request:sender_idle(Connection, self(), Had),
        {idle, S}
    end;
%% Writes the queued messages while it holds the writer lock.
step(work, #{nif := Nif} = S) ->
    receive
        Message -> handle(Message, S)
    after 0 ->
        case curve_tun_nif:pile(Nif) of
            none -> {keep, S};
            ok -> {idle, S};
            {ok, Frames} -> {work, piled(write({ok, Frames, []}, S), S)};
            {error, _, _} = Failed -> {work, piled(write(Failed, S), S)}
        end
    end;
step(keep, #{nif := Nif} = S) ->
    receive
        Message -> handle(Message, S)
    after ?KEEP ->
        case curve_tun_nif:written(Nif) of
            piled -> {work, S};
            ok -> {idle, S}
        end
    end.

-spec handle(term(), sender()) -> step().
handle({send, From, Messages}, #{had := Had} = S) ->
    {Froms, Batch} = collect([From], [Messages], length(Messages), bytes(Messages)),
    Had1 = Had + length(Froms),
    try served(Batch, S) of
        Reply -> reply(Froms, Reply, S), {work, S#{had := Had1}}
    catch
        error:Reason when Reason =:= badarg; Reason =:= undef ->
            reply(Froms, {error, closed}, S),
            {idle, nif_is_gone(S#{had := Had1})}
    end;
handle({finish, Ref}, #{had := Had} = S) ->
    try finished(S) of
        Reply -> reply([Ref], Reply, S), {work, S#{had := Had + 1}}
    catch
        error:Reason when Reason =:= badarg; Reason =:= undef ->
            reply([Ref], {error, closed}, S),
            {idle, nif_is_gone(S#{had := Had + 1})}
    end;
handle(stop, _S) ->
    exit(normal);
handle({'EXIT', Connection, _}, #{connection := Connection}) ->
    exit(normal);
handle({system, From, Request}, _S) ->
    {system, From, Request};
handle(_Message, S) ->
    {work, S}.

-spec reply([asker()], ok | {error, atom()}, sender()) -> ok.
reply(Askers, Reply, #{connection := Connection}) ->
    lists:foreach(fun(Ref) when is_reference(Ref) -> Connection ! {Ref, Reply};
                     (From) -> gen_statem:reply(From, Reply)
                  end, Askers).

%% Messages still queued after a failure fail at once.
-spec piled(ok | {error, atom()}, sender()) -> sender().
piled(Result, #{result := ok} = S) -> S#{result := Result};
piled(_Result, S) -> S.

%% Collects what other processes have requested meanwhile.
-spec collect([asker()], [[binary()]], non_neg_integer(), non_neg_integer()) -> {[asker()], [binary()]}.
collect(Froms, Lists, Count, Bytes) when Count < ?BATCH_MESSAGES, Bytes < ?BATCH_BYTES ->
    receive
        {send, From, Messages} ->
            collect([From | Froms], [Messages | Lists], Count + length(Messages), Bytes + bytes(Messages))
    after 0 ->
        {Froms, lists:append(lists:reverse(Lists))}
    end;
collect(Froms, Lists, _Count, _Bytes) ->
    {Froms, lists:append(lists:reverse(Lists))}.

-spec bytes([binary()]) -> non_neg_integer().
bytes(Messages) -> lists:foldl(fun(Message, Sum) -> byte_size(Message) + Sum end, 0, Messages).

-spec served([binary()], sender()) -> ok | {error, atom()}.
served(_Messages, #{result := {error, Reason}}) ->
    {error, Reason};
served(Messages, #{nif := Nif} = S) ->
    case get_turn(S) of
        ok ->
            case curve_tun_nif:seal(Nif, Messages) of
                {error, Reason} -> {error, Reason};
                Sealed -> write(Sealed, S)
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec finished(sender()) -> ok | {error, atom()}.
finished(#{nif := Nif} = S) ->
    case served([], S) of
        ok ->
            case curve_tun_nif:stream_finish(Nif) of
                ok -> served([], S);
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% Takes the writer lock, which `work/1' releases. If its holder dies, this process inherits it.
-spec get_turn(sender()) -> ok | {error, atom()}.
get_turn(#{nif := Nif, connection := Connection} = S) ->
    case curve_tun_nif:await_turn(Nif) of
        ok ->
            ok;
        {busy, Writer} ->
            Ref = monitor(process, Writer),
            Outcome = turn_comes(Connection, Ref),
            demonitor(Ref, [flush]),
            case Outcome of
                turn -> get_turn(S);
                down -> inherit(S)
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec turn_comes(pid(), reference()) -> turn | down.
turn_comes(Connection, Ref) ->
    receive
        {turn, Connection} -> turn;
        {'DOWN', Ref, process, _, _} -> down
    end.

%% Writes what a dead writer sealed and the socket did not get.
-spec inherit(sender()) -> ok | {error, atom()}.
inherit(#{nif := Nif, tcp := Tcp} = S) ->
    case inet:getstat(Tcp, [send_oct]) of
        {ok, [{send_oct, Taken}]} ->
            case curve_tun_nif:take_turn(Nif, Taken) of
                {ok, <<>>} -> ok;
                {ok, Frames} -> write({ok, Frames, []}, S);
                %% The writer released the lock before it died.
                {error, wrong_state} -> get_turn(S);
                {error, Reason} -> fail(Reason, S)
            end;
        {error, _} ->
            fail(closed, S)
    end.

-spec system_continue(pid(), [sys:debug_option()], sender()) -> no_return().
system_continue(_Parent, _Debug, S) -> ?MODULE:loop(work, S).

-spec system_terminate(term(), pid(), [sys:debug_option()], term()) -> no_return().
system_terminate(Reason, _Parent, _Debug, _State) ->
    curve_tun_log:forget_mailbox(),
    exit(curve_tun_log:reason(Reason)).

-spec system_code_change(State, module(), term(), term()) -> {ok, State}.
system_code_change(State, _Module, _OldVsn, _Extra) -> {ok, State}.
