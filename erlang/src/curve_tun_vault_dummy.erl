%%% @doc The vault with the key pair that the original ships: for tests only, since its secret key
%%% is public.
%%%
%%% It is used only where a configuration names it, and says so in the log when it starts.
%%% @end
-module(curve_tun_vault_dummy).
-behaviour(curve_tun_vault).
-behaviour(curve_tun_provider_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0, open/0, handle/0, public_key/0, box/3, box_open/3, safe_nonce/0]).

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    curve_tun_provider_server:start_link(?MODULE).

%% @private
-spec open() -> {ok, curve_tun_nif:vault()} | {error, atom()}.
open() ->
    ?LOG_WARNING("curve_tun_vault_dummy is in use: its secret key is public, and its connections are not secure", [],
                 #{domain => [curve_tun], reason => public_secret_key}),
    curve_tun_nif:vault_dummy().

%% @private
-spec handle() -> {ok, curve_tun_nif:vault()} | {error, vault_failed | {not_started, curve_tun}}.
handle() -> curve_tun_native_vault:handle(?MODULE).

%% @doc Returns the public key whose secret key the vault holds: 32 bytes. Like the functions below,
%% it raises an error of reason `{not_started, curve_tun}' when the application is not running.
-spec public_key() -> curve_tun:public_key().
public_key() -> curve_tun_native_vault:public_key(?MODULE).

%% @doc Seals a message for a peer. The nonce is `CurveCPK' or `CurveCPV' followed by 16 bytes from
%% `safe_nonce/0', each of which can be used once; any other raises an error of reason `badarg'.
-spec box(binary(), binary(), curve_tun:public_key()) -> binary().
box(Message, Nonce, Peer) -> curve_tun_native_vault:box(?MODULE, Message, Nonce, Peer).

%% @doc Opens a box from a peer.
-spec box_open(binary(), binary(), curve_tun:public_key()) -> {ok, binary()} | {error, failed_verification}.
box_open(Box, Nonce, Peer) -> curve_tun_native_vault:box_open(?MODULE, Box, Nonce, Peer).

%% @doc Returns a long-term nonce for one later {@link box/3}: 16 bytes.
-spec safe_nonce() -> binary().
safe_nonce() -> curve_tun_native_vault:safe_nonce(?MODULE).
