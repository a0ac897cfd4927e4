%%% @doc The default vault: its key lives outside of the BEAM's heap, in guarded memory.
%%%
%%% With `{vault_file, Path}' in the application's environment it is the vault in that file, which {@link create_file/1}
%%% or the tool `curve-tun' makes; the application does not start if it cannot be opened. One that is sealed by a
%%% passphrase cannot: the passphrase would be in the BEAM. Without, a new key is made when the application starts, and
%%% is gone when it stops.
%%% @end
-module(curve_tun_vault_nif).
-behaviour(curve_tun_vault).

-export([create_file/1]).
-export([start_link/0, handle/0, public_key/0, box/3, box_open/3, safe_nonce/0]).

%% @doc Makes a vault with a new key in a new file that only its owner can read, and gives the public key. The file is on
%% the disk when this returns; what is already at the path is never overwritten. The application need not run.
-spec create_file(file:filename_all()) -> {ok, curve_tun:public_key()} | {error, atom()}.
create_file(Path) ->
    curve_tun_nif:vault_create_file(unicode:characters_to_binary(Path)).

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    curve_tun_vault_process:start_link(?MODULE, fun open/0).

-spec open() -> {ok, curve_tun_nif:vault()} | {error, atom()}.
open() ->
    case application:get_env(curve_tun, vault_file) of
        undefined -> curve_tun_nif:vault_generate();
        {ok, Path} -> open_file(unicode:characters_to_binary(Path), 40)
    end.

%% A vault that was open when the application stopped is let go a moment later.
-spec open_file(binary(), non_neg_integer()) -> {ok, curve_tun_nif:vault()} | {error, atom()}.
open_file(Path, Tries) ->
    case curve_tun_nif:vault_open_file(Path) of
        {error, vault_in_use} when Tries > 0 -> timer:sleep(50), open_file(Path, Tries - 1);
        Result -> Result
    end.

%% @private
-spec handle() -> {ok, curve_tun_nif:vault()} | {error, vault_failed}.
handle() -> curve_tun_vault_process:handle(?MODULE).

%% @doc The public key whose secret the vault holds: 32 bytes. Exits with `vault_failed' when the application does not
%% run.
-spec public_key() -> curve_tun:public_key().
public_key() -> curve_tun_vault_process:public_key(?MODULE).

%% @doc Seals a message for a peer. The nonce is `CurveCPK' or `CurveCPV' and then 16 bytes of `safe_nonce/0', each of
%% which serves once; any other is an `invalid_argument'-like error of reason `badarg'.
-spec box(binary(), binary(), curve_tun:public_key()) -> binary().
box(Message, Nonce, Peer) -> curve_tun_vault_process:box(?MODULE, Message, Nonce, Peer).

%% @doc Opens a box from a peer.
-spec box_open(binary(), binary(), curve_tun:public_key()) -> {ok, binary()} | {error, failed_verification}.
box_open(Box, Nonce, Peer) -> curve_tun_vault_process:box_open(?MODULE, Box, Nonce, Peer).

%% @doc A long-term nonce for one later {@link box/3}: 16 bytes.
-spec safe_nonce() -> binary().
safe_nonce() -> curve_tun_vault_process:safe_nonce(?MODULE).
