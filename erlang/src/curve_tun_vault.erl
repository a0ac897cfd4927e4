%%% @doc What a vault is: the holder of a long-term secret key.
%%%
%%% A connection boxes and opens boxes for that key through these calls and never sees it. They are
%%% made from a process of their own for each request, so a vault may take its time, up to the
%%% deadline of the handshake; one that crashes, hangs or answers anything else refuses that one
%%% client.
%%%
%%% Name your module in the application's environment (`vault_providers', the first is used) or with
%%% the option `{vault, Module}' of one connection or listener. One with `start_link/0' that is
%%% named in the environment is supervised by the application.
%%% @end
-module(curve_tun_vault).

-callback public_key() -> curve_tun:public_key().
%% The public key whose secret the vault holds: 32 bytes.

-callback box(Message :: binary(), Nonce :: binary(), Peer :: curve_tun:public_key()) -> Box :: binary().
%% `crypto_box' of the message for the peer: 16 bytes longer. The nonce has 24 bytes: 8 that say
%% what for, `CurveCPK' or `CurveCPV', then 16 that `safe_nonce/0' gave.

-callback box_open(Box :: binary(), Nonce :: binary(), Peer :: curve_tun:public_key()) ->
    {ok, Message :: binary()} | {error, failed_verification}.
%% Opens such a box from the peer.

-callback safe_nonce() -> Nonce :: binary().
%% 16 bytes that were never given before, also not before a restart, and that do not show how many
%% there were.

-callback max_concurrency() -> pos_integer().
%% How many calls the vault works on at once. Connections have no more under way; whoever waits does
%% so in turn, one call of one peer's address, or the /64 of an IPv6 address, after the other, and
%% goes when his connection does. A call that has begun goes on without him, for five seconds. Asked
%% when a listener, or a connection of this node's, begins; not given, it is 1 for a module that has
%% a process (`start_link/0'), which answers one call after another, and 256 for any other. One that
%% calls a process of another name says 1, too, or whoever floods stands in that one's mailbox
%% before everybody.

-callback handle() -> {ok, curve_tun_nif:vault()} | {error, term()}.
%% Only for vaults that live in the NIF: connections use them there.

-optional_callbacks([max_concurrency/0, handle/0]).
