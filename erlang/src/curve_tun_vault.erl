%%% @doc The behaviour of a vault, the holder of a long-term secret key.
%%%
%%% A connection boxes and opens boxes for that key through these calls and never sees it. They are
%%% made from a separate process for each request, so a vault may take its time, up to the deadline
%%% of the handshake. A vault that crashes, hangs or returns anything else refuses that one client.
%%%
%%% Name your module in the application's environment (`vault_providers', the first is used) or with
%%% the option `{vault, Module}' of one connection or listener. A module with `start_link/0' that is
%%% named in the environment is supervised by the application.
%%% @end
-module(curve_tun_vault).

-callback public_key() -> curve_tun:public_key().
%% Returns the public key whose secret key the vault holds: 32 bytes.

-callback box(Message :: binary(), Nonce :: binary(), Peer :: curve_tun:public_key()) -> Box :: binary().
%% Returns the `crypto_box' of the message for the peer: 16 bytes longer. The nonce has 24 bytes: 8
%% that state the purpose, `CurveCPK' or `CurveCPV', then 16 returned by `safe_nonce/0'.

-callback box_open(Box :: binary(), Nonce :: binary(), Peer :: curve_tun:public_key()) ->
    {ok, Message :: binary()} | {error, failed_verification}.
%% Opens such a box from the peer.

-callback safe_nonce() -> Nonce :: binary().
%% Returns 16 bytes that were never returned before, not even before a restart, and that do not
%% reveal how many there have been.

-callback max_concurrency() -> pos_integer().
%% Returns how many calls the vault works on at once. Connections make no more at a time. The others
%% wait in turn, one call of each peer's address, or the /64 of an IPv6 address, after the other,
%% and leave the queue when their connection ends. A call that has begun continues without its
%% connection, for up to five seconds. This function is called when a listener, or a connection of
%% this node, begins. Without it the number is 1 for a module that has a process (`start_link/0'),
%% which answers one call after another, and 256 for any other. A module that calls a process under
%% another name should also return 1; otherwise a flood of requests waits in that process's mailbox
%% ahead of everybody else.

-callback handle() -> {ok, curve_tun_nif:vault()} | {error, term()}.
%% Only for vaults that live in the NIF: connections use them there.

-optional_callbacks([max_concurrency/0, handle/0]).
