%%% @private
%%% Decides how much is read from the TCP socket of an established connection, and when. It is a
%%% value held by the connection process.
%%%
%%% A socket set to `once' is read at once, without waiting for the kernel to report data: the
%%% fastest way while there is more to read. When there is nothing, the socket is left holding a
%%% buffer. A socket set to `true' holds none, and can then be given a number, so that at most that
%%% many reads wait for the connection. The number is replenished before it is used up: a socket
%%% that never becomes passive is soon polled by the BEAM's schedulers themselves, and the thread
%%% that polls the others need not wake anybody.
-module(curve_tun_reader).

-export([new/2, had/2, bytes/1, came/2, passive/1, read_more/2, resume/2, idle/1]).
-export_type([reader/0]).

%% The initial buffer size of a socket. A read that fills the buffer brings a large one, for as long
%% as the connection is busy.
-define(SMALL, 4096).
%% The number of reads that may wait. It is replenished once half of it is used up.
-define(READS, 8).

-record(reader, {
    socket :: gen_tcp:socket(),
    %% What the socket still delivers: one read, a number of them, or none when above the high-water
    %% mark.
    reading = none :: none | once | pos_integer(),
    %% The buffer's size, now and when large; and whether the last read filled it, so that more is
    %% waiting.
    buffer = ?SMALL :: pos_integer(),
    large :: pos_integer(),
    filled = false :: boolean(),
    %% The number of bytes read in all.
    bytes = 0 :: non_neg_integer()
}).
-opaque reader() :: #reader{}.

%% Makes the reader of a passive socket with a small buffer.
-spec new(gen_tcp:socket(), pos_integer()) -> reader().
new(Socket, Large) ->
    #reader{socket = Socket, large = Large}.

%% Sets the number of bytes that were read before it began.
-spec had(non_neg_integer(), reader()) -> reader().
had(Bytes, R) ->
    R#reader{bytes = Bytes}.

-spec bytes(reader()) -> non_neg_integer().
bytes(#reader{bytes = Bytes}) -> Bytes.

%% Records a read of this many bytes.
-spec came(non_neg_integer(), reader()) -> reader().
came(Size, #reader{reading = Left, buffer = Buffer, bytes = Bytes} = R) when is_integer(Left), Left > 1 ->
    R#reader{reading = Left - 1, filled = Size >= Buffer, bytes = Bytes + Size};
came(Size, #reader{buffer = Buffer, bytes = Bytes} = R) ->
    R#reader{reading = none, filled = Size >= Buffer, bytes = Bytes + Size}.

%% Handles a socket that reports it is passive. By then it may have been set to `once' again.
-spec passive(reader()) -> reader().
passive(#reader{reading = once} = R) -> R;
passive(R) -> R#reader{reading = none}.

%% Continues reading. Above the high-water mark nothing is read, and the peer has to wait.
-spec read_more(IsFull :: boolean(), reader()) -> reader().
read_more(true, #reader{reading = Left, socket = Socket} = R) when is_integer(Left) ->
    _ = inet:setopts(Socket, [{active, false}]),
    R#reader{reading = none};
read_more(true, R) ->
    R;
read_more(false, R) ->
    arm(R).

%% Resumes reading if it had stopped.
-spec resume(IsLow :: boolean(), reader()) -> reader().
resume(true, #reader{reading = none} = R) -> arm(R);
resume(_IsLow, R) -> R.

%% A socket that has closed meanwhile reports that by itself.
-spec arm(reader()) -> reader().
arm(#reader{reading = once} = R) ->
    R;
arm(#reader{filled = true, socket = Socket, buffer = Large, large = Large} = R) ->
    _ = inet:setopts(Socket, [{active, once}]),
    R#reader{reading = once};
arm(#reader{filled = true, socket = Socket, large = Large} = R) ->
    _ = inet:setopts(Socket, [{buffer, Large}, {active, once}]),
    R#reader{reading = once, buffer = Large};
arm(#reader{reading = none, socket = Socket} = R) ->
    _ = inet:setopts(Socket, [{active, true}]),
    _ = inet:setopts(Socket, [{active, ?READS}]),
    R#reader{reading = ?READS};
arm(#reader{reading = Left, socket = Socket} = R) when Left =< ?READS div 2 ->
    _ = inet:setopts(Socket, [{active, ?READS - Left}]),
    R#reader{reading = ?READS};
arm(R) ->
    R.

%% Handles a period without data.
-spec idle(reader()) -> reader().
idle(#reader{buffer = ?SMALL} = R) ->
    R;
idle(#reader{socket = Socket} = R) ->
    _ = inet:setopts(Socket, [{buffer, ?SMALL}]),
    R#reader{buffer = ?SMALL}.
