%%% @private
%%% The calls of a vault whose key lives in the NIF, under the name of its module;
%%% `curve_tun_provider_server' is its process.
-module(curve_tun_native_vault).

-export([handle/1, public_key/1, box/4, box_open/4, safe_nonce/1]).

-spec handle(module()) -> {ok, curve_tun_nif:vault()} | {error, vault_failed | {not_started, curve_tun}}.
handle(Module) ->
    case {curve_tun_handles:find(Module), curve_tun_app:check()} of
        {{ok, Vault}, ok} -> {ok, Vault};
        {error, ok} -> {error, vault_failed};
        {_, {error, Reason}} -> {error, Reason}
    end.

-spec public_key(module()) -> curve_tun:public_key().
public_key(Module) ->
    curve_tun_nif:vault_public_key(vault(Module)).

-spec box(module(), binary(), binary(), curve_tun:public_key()) -> binary().
box(Module, Message, Nonce, Peer) ->
    case curve_tun_nif:vault_box(vault(Module), Message, Nonce, Peer) of
        {ok, Box} -> Box;
        {error, Reason} -> error(Reason)
    end.

-spec box_open(module(), binary(), binary(), curve_tun:public_key()) ->
          {ok, binary()} | {error, failed_verification}.
box_open(Module, Box, Nonce, Peer) ->
    case curve_tun_nif:vault_box_open(vault(Module), Box, Nonce, Peer) of
        {ok, Message} -> {ok, Message};
        {error, _} -> {error, failed_verification}
    end.

-spec safe_nonce(module()) -> binary().
safe_nonce(Module) ->
    case curve_tun_nif:vault_nonce(vault(Module)) of
        {ok, Nonce} -> Nonce;
        {error, Reason} -> error(Reason)
    end.

-spec vault(module()) -> curve_tun_nif:vault().
vault(Module) ->
    case handle(Module) of
        {ok, Vault} -> Vault;
        {error, Reason} -> error(Reason)
    end.
