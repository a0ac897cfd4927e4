%% The data of a connection's process, shared by `curve_tun_connection' and its modules `_setup',
%% `_stream', `_sending' and `_told': in a release upgrade they change together.

%% The stream that a connection carries, apart from what the machine in the NIF knows.
-record(stream, {
    packet :: curve_tun_nif:packet(),
    %% Sends that wait until the peer has opened.
    waiting = [] :: [{gen_statem:from(), [binary()], Timer :: reference() | none}],
    %% The own end: `yes' once the sender has written it, and who waits for that.
    finished = no :: no | {asked, reference(), [gen_statem:from()]} | yes,
    %% Whether the peer has ended what it sends.
    ended = false :: boolean(),
    %% What is being done in the state `closing': the own end is written and the peer's awaited, an
    %% abort is written, or only the transport is left.
    closing = no :: no | finish | {abort, reference()} | over,
    %% Bytes that were still to be written, and until when there have to be fewer.
    progress = {0, infinity} :: {non_neg_integer(), curve_tun_time:deadline()}
}).

%% Buffers and heap are given back after this many idle milliseconds.
-define(IDLE, 1000).

-record(data, {
    controller :: {pid(), reference()},
    %% The active mode that a listener's connection is to get, and the process it was offered to,
    %% until that process takes it. Until then the listener controls it, and messages go to nobody.
    offer = none :: none | {curve_tun:active(), nobody | {pid(), reference()}},
    %% What programs hold. Known once there is a TCP socket.
    self :: curve_tun:socket() | undefined,
    socket :: gen_tcp:socket() | undefined,
    %% The listener that took it from the backlog, and is told when its handshake is over. Until
    %% then it ends with the listener, which rotates the minute keys.
    listener = none :: none | {pid(), reference()},
    nif :: curve_tun_nif:connection() | undefined,
    prepared :: curve_tun_connection:prepared() | undefined,
    role :: client | server | undefined,
    %% The peer's address. Its socket no longer returns it once the peer has left.
    peer = unknown :: curve_tun_log:peer(),
    %% The handler to be told of the end of the handshake and of the connection, `none' once it has
    %% been told; and when the current phase began (`curve_tun_time:now_ms/0').
    events = none :: curve_tun_events:handler(),
    since = 0 :: non_neg_integer(),
    handshake :: curve_tun_handshake:handshake() | undefined,
    %% The caller waiting for the end of the handshake.
    waiting :: gen_statem:from() | undefined,
    %% Exists while several processes send at once, or one in quick succession; with the number of
    %% times it was asked to send.
    sender :: {pid(), Asked :: pos_integer()} | undefined,
    receivers :: curve_tun_receivers:receivers(),
    stream = none :: none | #stream{},
    high_water = 1 :: pos_integer(),
    reader :: curve_tun_reader:reader() | undefined,
    %% Whether the idle timer is running, and whether anything was received since it was set.
    idle_timer = false :: boolean(),
    moved = false :: boolean(),
    %% The error that the socket failed with.
    failure = none :: none | atom(),
    %% What is left to do when closing.
    linger :: none | curve_tun_linger:linger()
}).
