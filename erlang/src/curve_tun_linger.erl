%%% @private
%%% Closing in order: a value of the connection process.
%%%
%%% What was sent is handed to the kernel, then the peer's own end is awaited, for closing with unread bytes would reset
%%% the connection and could take away what the peer has not read. Both waits are bounded.
-module(curve_tun_linger).

-export([start/1, due/1, passive/1, pending/1, close/1]).
-export_type([linger/0]).

-record(linger, {
    socket :: gen_tcp:socket(),
    left :: {flush, Pending :: non_neg_integer(), curve_tun_time:deadline()} | drain
}).
-opaque linger() :: #linger{}.

%% A close waits this long for the kernel to take more of what was sent, and then this long for the peer's end.
-define(FLUSH, 5000).
-define(FLUSH_STEP, 10).
-define(DRAIN, 500).
-define(READS, 8).

%% Begins; `due/1' is to be called at once.
-spec start(gen_tcp:socket()) -> linger().
start(Socket) ->
    flush(pending(Socket), Socket).

-spec flush(non_neg_integer(), gen_tcp:socket()) -> linger().
flush(Pending, Socket) ->
    #linger{socket = Socket, left = {flush, Pending, curve_tun_time:deadline(?FLUSH)}}.

%% Goes on after a wait: in how many milliseconds it is due again, or `over'.
-spec due(linger()) -> {wait, pos_integer(), linger()} | over.
due(#linger{left = drain}) ->
    over;
due(#linger{socket = Socket, left = {flush, Before, Deadline}} = L) ->
    case pending(Socket) of
        0 -> drain(L);
        Less when Less < Before -> {wait, ?FLUSH_STEP, flush(Less, Socket)};
        _ ->
            case curve_tun_time:left(Deadline) of
                0 -> over;
                _ -> {wait, ?FLUSH_STEP, L}
            end
    end.

-spec drain(linger()) -> {wait, pos_integer(), linger()} | over.
drain(#linger{socket = Socket} = L) ->
    _ = gen_tcp:shutdown(Socket, write),
    case inet:setopts(Socket, [{active, ?READS}]) of
        ok -> {wait, ?DRAIN, L#linger{left = drain}};
        {error, _} -> over
    end.

%% The socket says that it is passive: what still comes is dropped.
-spec passive(linger()) -> ok.
passive(#linger{socket = Socket, left = drain}) ->
    _ = inet:setopts(Socket, [{active, ?READS}]),
    ok;
passive(#linger{}) ->
    ok.

%% Bytes that the kernel has not taken.
-spec pending(gen_tcp:socket()) -> non_neg_integer().
pending(Socket) ->
    case inet:getstat(Socket, [send_pend]) of
        {ok, [{send_pend, Pending}]} -> Pending;
        {error, _} -> 0
    end.

%% Closes at once. `gen_tcp:close/1' alone would wait for what the kernel has not taken; who comes here has waited for
%% that or gives it up.
-spec close(gen_tcp:socket()) -> ok.
close(Socket) ->
    _ = pending(Socket) =:= 0 orelse inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).
