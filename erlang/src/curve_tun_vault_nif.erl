%%% @doc The default vault: its key lives outside the BEAM's heap.
%%%
%%% The application's environment chooses the vault:
%%%
%%% <dl>
%%% <dt>`{vault_file, Path}'</dt><dd>the vault in that file, which {@link create_file/1} or the tool
%%% `curve-tun' creates</dd>
%%% <dt>`{vault_agent, SocketPath}'</dt><dd>the vault that `curve-tun agent' serves at that Unix
%%% socket</dd>
%%% <dt>`{vault_pkcs11, Uri}'</dt><dd>the key in the token that the URI (RFC 7512) names; the URI
%%% must not hold the PIN (`pin-value'), which would then be in the BEAM</dd>
%%% <dt>none of them</dt><dd>a new key in guarded memory, made when the application starts and gone
%%% when it stops</dd>
%%% </dl>
%%%
%%% The passphrase of a sealed file, or the PIN of a token, is the first line of the file that
%%% `{vault_passphrase_file, Path}' names, at most 1024 bytes. It never enters the BEAM's heap. A
%%% path or URI is a string or a binary. The application does not start if the vault cannot be
%%% opened. The reason is `vault_permissions' if anybody but its owner and group can read that file,
%%% or anybody but its owner can write it, and likewise for the file that a URI's `pin-source'
%%% names. It is `ambiguous_vault' if the environment names two vaults, or a passphrase for a vault
%%% that has none.
%%%
%%% Agents and tokens take time: handshakes wait for them, and nothing else does.
%%% @end
-module(curve_tun_vault_nif).
-behaviour(curve_tun_vault).
-behaviour(curve_tun_provider_server).

-export([create_file/1]).
-export([start_link/0, open/0, handle/0, public_key/0, box/3, box_open/3, safe_nonce/0]).

%% @doc Makes a vault with a new key in a new file that only its owner can read, and returns the
%% public key. The file is on disk when this returns. An existing file is never overwritten. The
%% application need not be running.
-spec create_file(file:filename_all()) -> {ok, curve_tun:public_key()} | {error, atom()}.
create_file(Path) ->
    try curve_tun_nif:vault_create_file(text(Path))
    catch error:_ -> {error, badarg}
    end.

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    curve_tun_provider_server:start_link(?MODULE).

%% @private
-spec open() -> {ok, curve_tun_nif:vault()} | {error, atom()}.
open() ->
    case [{Key, Value} || Key <- [vault_file, vault_agent, vault_pkcs11, vault_passphrase_file],
                          {ok, Value} <- [application:get_env(curve_tun, Key)]] of
        [] -> curve_tun_nif:vault_generate();
        [{vault_file, Path}] -> open_file(text(Path), none);
        [{vault_file, Path}, {vault_passphrase_file, File}] -> open_file(text(Path), text(File));
        [{vault_agent, SocketPath}] -> curve_tun_nif:vault_open_agent(text(SocketPath));
        [{vault_pkcs11, Uri}] -> open_pkcs11(text(Uri), none);
        [{vault_pkcs11, Uri}, {vault_passphrase_file, File}] -> open_pkcs11(text(Uri), text(File));
        _ -> {error, ambiguous_vault}
    end.

-spec open_file(binary(), curve_tun_nif:secret_file()) -> {ok, curve_tun_nif:vault()} | {error, atom()}.
open_file(Path, PassphraseFile) ->
    when_free(fun() -> curve_tun_nif:vault_open_file(Path, PassphraseFile) end, 40).

-spec open_pkcs11(binary(), curve_tun_nif:secret_file()) -> {ok, curve_tun_nif:vault()} | {error, atom()}.
open_pkcs11(Uri, PinFile) ->
    when_free(fun() -> curve_tun_nif:vault_open_pkcs11(Uri, PinFile) end, 40).

%% Retries the opening: a vault that was open when the application stopped is released a moment
%% later.
-spec when_free(fun(() -> {ok, curve_tun_nif:vault()} | {error, atom()}), non_neg_integer()) ->
          {ok, curve_tun_nif:vault()} | {error, atom()}.
when_free(Open, Tries) ->
    case Open() of
        {error, vault_in_use} when Tries > 0 -> timer:sleep(50), when_free(Open, Tries - 1);
        Result -> Result
    end.

-spec text(unicode:chardata()) -> binary().
text(Path) ->
    <<_/binary>> = unicode:characters_to_binary(Path).

%% @private
-spec handle() -> {ok, curve_tun_nif:vault()} | {error, vault_failed | {not_started, curve_tun}}.
handle() -> curve_tun_native_vault:handle(?MODULE).

%% @doc Returns the public key whose secret key the vault holds: 32 bytes. Like the functions below,
%% it raises an error of reason `{not_started, curve_tun}' when the application is not running.
-spec public_key() -> curve_tun:public_key().
public_key() -> curve_tun_native_vault:public_key(?MODULE).

%% @doc Seals a message for a peer. The nonce is `CurveCPK' or `CurveCPV' followed by 16 bytes from
%% `safe_nonce/0', each of which can be used once; any other raises an error of reason `badarg'.
%% With an agent, which makes its nonces itself, the reason is `enotsup'.
-spec box(binary(), binary(), curve_tun:public_key()) -> binary().
box(Message, Nonce, Peer) -> curve_tun_native_vault:box(?MODULE, Message, Nonce, Peer).

%% @doc Opens a box from a peer.
-spec box_open(binary(), binary(), curve_tun:public_key()) -> {ok, binary()} | {error, failed_verification}.
box_open(Box, Nonce, Peer) -> curve_tun_native_vault:box_open(?MODULE, Box, Nonce, Peer).

%% @doc Returns a long-term nonce for one later {@link box/3}: 16 bytes. With an agent it raises an
%% error of reason `enotsup'.
-spec safe_nonce() -> binary().
safe_nonce() -> curve_tun_native_vault:safe_nonce(?MODULE).
