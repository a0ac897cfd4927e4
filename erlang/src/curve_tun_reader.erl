%%% @private
%%% How much is read of the TCP socket of an established connection, and when: a value of the
%%% connection process.
%%%
%%% A socket that is made `once' is read at once, without a wait for the kernel's word: the fastest
%%% way while more is there. When nothing is, that leaves the socket with a buffer in waiting. One
%%% that is made `true' has none, and then may have a number, so that not more than so many reads
%%% wait for the connection. That number is filled up before it is used up: the events of a socket
%%% that is never passive are soon looked for by the BEAM's schedulers themselves, and nobody has to
%%% be woken by the thread that polls the others.
-module(curve_tun_reader).

-export([new/2, had/2, bytes/1, came/2, passive/1, read_more/2, resume/2, idle/1]).
-export_type([reader/0]).

%% The buffer that a socket has at first. A read that fills it brings a large one, for as long as
%% the connection is busy.
-define(SMALL, 4096).
%% Reads that may wait. Once a half is used up it is given again.
-define(READS, 8).

-record(reader, {
    socket :: gen_tcp:socket(),
    %% What the socket still delivers: one read, so many, or, above the high-water mark, none.
    reading = none :: none | once | pos_integer(),
    %% The size of its buffer, now and when large; and whether the last read filled it, so that more
    %% waits.
    buffer = ?SMALL :: pos_integer(),
    large :: pos_integer(),
    filled = false :: boolean(),
    %% What has been read in all.
    bytes = 0 :: non_neg_integer()
}).
-opaque reader() :: #reader{}.

%% The reader of a passive socket with a small buffer.
-spec new(gen_tcp:socket(), pos_integer()) -> reader().
new(Socket, Large) ->
    #reader{socket = Socket, large = Large}.

%% So many bytes were read before it began.
-spec had(non_neg_integer(), reader()) -> reader().
had(Bytes, R) ->
    R#reader{bytes = Bytes}.

-spec bytes(reader()) -> non_neg_integer().
bytes(#reader{bytes = Bytes}) -> Bytes.

%% A read brought so many bytes.
-spec came(non_neg_integer(), reader()) -> reader().
came(Size, #reader{reading = Left, buffer = Buffer, bytes = Bytes} = R) when is_integer(Left), Left > 1 ->
    R#reader{reading = Left - 1, filled = Size >= Buffer, bytes = Bytes + Size};
came(Size, #reader{buffer = Buffer, bytes = Bytes} = R) ->
    R#reader{reading = none, filled = Size >= Buffer, bytes = Bytes + Size}.

%% The socket says that it is passive. By then it may have been made `once'.
-spec passive(reader()) -> reader().
passive(#reader{reading = once} = R) -> R;
passive(R) -> R#reader{reading = none}.

%% Reads on. Above the high-water mark nothing is read, and the peer feels it.
-spec read_more(IsFull :: boolean(), reader()) -> reader().
read_more(true, #reader{reading = Left, socket = Socket} = R) when is_integer(Left) ->
    _ = inet:setopts(Socket, [{active, false}]),
    R#reader{reading = none};
read_more(true, R) ->
    R;
read_more(false, R) ->
    arm(R).

%% Reads on, if it had stopped.
-spec resume(IsLow :: boolean(), reader()) -> reader().
resume(true, #reader{reading = none} = R) -> arm(R);
resume(_IsLow, R) -> R.

%% A socket that has closed meanwhile says so by itself.
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

%% Nothing came for a while.
-spec idle(reader()) -> reader().
idle(#reader{buffer = ?SMALL} = R) ->
    R;
idle(#reader{socket = Socket} = R) ->
    _ = inet:setopts(Socket, [{buffer, ?SMALL}]),
    R#reader{buffer = ?SMALL}.
