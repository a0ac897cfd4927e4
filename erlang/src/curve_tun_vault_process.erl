%%% @private
%%% The process of a vault whose key lives in the NIF. It is registered under the name of the vault's module; the vault
%%% outlives it, so that it comes back with the same key.
-module(curve_tun_vault_process).
-behaviour(gen_server).

-export([start_link/2, handle/1, public_key/1, box/4, box_open/4, safe_nonce/1]).
-export([init/1, handle_call/3, handle_cast/2]).

-type make() :: fun(() -> {ok, curve_tun_nif:vault()} | {error, atom()}).

-spec start_link(module(), make()) -> {ok, pid()} | {error, term()}.
start_link(Module, Make) ->
    case gen_server:start_link({local, Module}, ?MODULE, {Module, Make}, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec handle(module()) -> {ok, curve_tun_nif:vault()} | {error, vault_failed}.
handle(Module) ->
    case curve_tun_keep:find(Module) of
        {ok, Vault} -> {ok, Vault};
        error -> {error, vault_failed}
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

-spec init({module(), make()}) -> {ok, curve_tun_nif:vault()} | {stop, atom()}.
init({Module, Make}) ->
    case curve_tun_keep:get_or_make(Module, Make) of
        {ok, Vault} -> {ok, Vault};
        {error, Reason} -> {stop, Reason}
    end.

-spec handle_call(term(), gen_server:from(), curve_tun_nif:vault()) -> {reply, term(), curve_tun_nif:vault()}.
handle_call(_Call, _From, Vault) ->
    {reply, {error, badarg}, Vault}.

-spec handle_cast(term(), curve_tun_nif:vault()) -> {noreply, curve_tun_nif:vault()}.
handle_cast(_Cast, Vault) ->
    {noreply, Vault}.
