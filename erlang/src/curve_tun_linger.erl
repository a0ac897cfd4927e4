%%% @private
%%% Closes in order. It is a value held by the connection process.
%%%
%%% All data sent is handed to the kernel, then the peer's end of stream is awaited: closing with
%%% unread bytes would reset the connection and could discard data the peer has not read yet. Both
%%% waits are bounded.
-module(curve_tun_linger).

-export([start/2, start/3, due/1, passive/1, pending/2, await_sender/2, close/1]).
-export_type([linger/0]).

%% A close waits this long for the kernel to take more of the data sent, and `?DRAIN' milliseconds
%% for the peer's end; at the end of a stream longer, and a client lets the server end first.
-define(FLUSH, 5000).
-define(FLUSH_STEP, 10).
-define(DRAIN, 500).
-define(STREAM_DRAIN, 2000).
-define(STREAM_AWAIT, 1000).

-record(linger, {
    socket :: gen_tcp:socket(),
    nif :: curve_tun_nif:connection(),
    left :: {flush, Pending :: non_neg_integer(), curve_tun_time:deadline()} | await | drain,
    %% Milliseconds that a client leaves the end of the transport to the server.
    await = 0 :: non_neg_integer(),
    drain = ?DRAIN :: pos_integer()
}).
-opaque linger() :: #linger{}.

%% Steps without progress after which the sender is abandoned when its connection has to end at
%% once.
-define(STALLS, 10).
-define(READS, 8).

%% Begins. `due/1' has to be called at once.
-spec start(gen_tcp:socket(), curve_tun_nif:connection()) -> linger().
start(Socket, Nif) ->
    #linger{socket = Socket, nif = Nif, left = flush(pending(Socket, Nif))}.

%% The same at the end of a stream.
-spec start(gen_tcp:socket(), curve_tun_nif:connection(), client | server) -> linger().
start(Socket, Nif, Role) ->
    Await = case Role of client -> ?STREAM_AWAIT; server -> 0 end,
    (start(Socket, Nif))#linger{await = Await, drain = ?STREAM_DRAIN}.

-spec flush(non_neg_integer()) -> {flush, non_neg_integer(), curve_tun_time:deadline()}.
flush(Pending) -> {flush, Pending, curve_tun_time:deadline(?FLUSH)}.

%% Continues after a wait: returns in how many milliseconds it is due again, or `over'.
-spec due(linger()) -> {wait, pos_integer(), linger()} | over.
due(#linger{left = drain}) ->
    over;
due(#linger{left = await} = L) ->
    drain(L);
due(#linger{socket = Socket, nif = Nif, left = {flush, Before, Deadline}} = L) ->
    case pending(Socket, Nif) of
        0 -> await(L);
        Less when Less < Before -> {wait, ?FLUSH_STEP, L#linger{left = flush(Less)}};
        _ ->
            case curve_tun_time:left(Deadline) of
                0 -> over;
                _ -> {wait, ?FLUSH_STEP, L}
            end
    end.

-spec await(linger()) -> {wait, pos_integer(), linger()} | over.
await(#linger{await = 0} = L) -> drain(L);
await(#linger{await = Ms} = L) -> read(Ms, L#linger{left = await}).

-spec drain(linger()) -> {wait, pos_integer(), linger()} | over.
drain(#linger{socket = Socket, drain = Ms} = L) ->
    _ = gen_tcp:shutdown(Socket, write),
    read(Ms, L#linger{left = drain}).

-spec read(pos_integer(), linger()) -> {wait, pos_integer(), linger()} | over.
read(Ms, #linger{socket = Socket} = L) ->
    case inet:setopts(Socket, [{active, ?READS}]) of
        ok -> {wait, Ms, L};
        {error, _} -> over
    end.

%% Handles a socket that has become passive: whatever still arrives is dropped.
-spec passive(linger()) -> ok.
passive(#linger{socket = Socket, left = Left}) when Left =:= drain; Left =:= await ->
    _ = inet:setopts(Socket, [{active, ?READS}]),
    ok;
passive(#linger{}) ->
    ok.

%% Returns the bytes in the socket and the sender that the kernel has not taken.
-spec pending(gen_tcp:socket(), curve_tun_nif:connection()) -> non_neg_integer().
pending(Socket, Nif) ->
    case inet:getstat(Socket, [send_pend, send_oct]) of
        {ok, [{send_pend, Pending}, {send_oct, Taken}]} -> Pending + curve_tun_nif:unsent(Nif, Taken);
        {error, _} -> 0
    end.

%% Waits for the sender to write what it still has, as long as it makes progress: its callers have
%% been told that the data is sent.
-spec await_sender(gen_tcp:socket(), curve_tun_nif:connection()) -> ok.
await_sender(Socket, Nif) ->
    await_sender(infinity, ?STALLS, Socket, Nif).

-spec await_sender(non_neg_integer() | infinity, non_neg_integer(), gen_tcp:socket(), curve_tun_nif:connection()) -> ok.
await_sender(_Before, 0, _Socket, _Nif) ->
    ok;
await_sender(Before, Stalls, Socket, Nif) ->
    case unsent(Socket, Nif) of
        0 -> ok;
        Less when Less < Before -> timer:sleep(?FLUSH_STEP), await_sender(Less, ?STALLS, Socket, Nif);
        _ -> timer:sleep(?FLUSH_STEP), await_sender(Before, Stalls - 1, Socket, Nif)
    end.

-spec unsent(gen_tcp:socket(), curve_tun_nif:connection()) -> non_neg_integer().
unsent(Socket, Nif) ->
    case inet:getstat(Socket, [send_oct]) of
        {ok, [{send_oct, Taken}]} -> curve_tun_nif:unsent(Nif, Taken);
        {error, _} -> 0
    end.

%% Closes at once. `gen_tcp:close/1' alone would wait for the data that the kernel has not taken;
%% callers have already waited for that, or have given it up.
-spec close(gen_tcp:socket()) -> ok.
close(Socket) ->
    _ = inet:getstat(Socket, [send_pend]) =:= {ok, [{send_pend, 0}]} orelse inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).
