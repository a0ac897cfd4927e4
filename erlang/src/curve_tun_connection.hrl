%% The data of a connection's process, which `curve_tun_connection' and its modules `_setup' and
%% `_told' share: in a release upgrade they change together.

-record(data, {
    controller :: {pid(), reference()},
    %% The active mode that a listener's connection is to have, and who was offered it, until he has
    %% taken it. The listener controls it until then, and no message goes to anybody.
    offer = none :: none | {curve_tun:active(), nobody | {pid(), reference()}},
    %% What programs hold: known once there is a TCP socket.
    self :: curve_tun:socket() | undefined,
    socket :: gen_tcp:socket() | undefined,
    %% Who took it from the backlog, and is told when its handshake is over. Until then it ends with
    %% the listener, which has the minute keys rotated.
    listener = none :: none | {pid(), reference()},
    nif :: curve_tun_nif:connection() | undefined,
    prepared :: curve_tun_connection:prepared() | undefined,
    role :: client | server | undefined,
    %% The peer's address, which its socket does not tell any more when it has left.
    peer = unknown :: curve_tun_log:peer(),
    %% Who is told of the end of the handshake, and of that of the connection, and is not told yet;
    %% and when that has begun (`curve_tun_time:now_ms/0').
    events = none :: curve_tun_events:handler(),
    since = 0 :: non_neg_integer(),
    handshake :: curve_tun_handshake:handshake() | undefined,
    %% Whoever waits for the end of the handshake.
    waiting :: gen_statem:from() | undefined,
    %% There is one while several processes send at once, or one in quick succession; and how often
    %% it was asked to send.
    sender :: {pid(), Asked :: pos_integer()} | undefined,
    receivers :: curve_tun_receivers:receivers(),
    high_water = 1 :: pos_integer(),
    reader :: curve_tun_reader:reader() | undefined,
    %% Whether the idle timer runs, and whether anything came since it was set.
    idle_timer = false :: boolean(),
    moved = false :: boolean(),
    %% What the socket has failed with.
    failure = none :: none | atom(),
    %% What is left to do when closing.
    linger :: none | curve_tun_linger:linger()
}).
