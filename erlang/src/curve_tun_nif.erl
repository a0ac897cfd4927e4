%%% @doc The NIF, and nothing else.
%%%
%%% Vaults, registries, servers and connections are references here: their secrets stay outside the
%%% BEAM's heap. The other modules call this one; programs do not need to.
%%%
%%% A NIF with resources cannot be upgraded in place: reloading this module fails and leaves the old
%%% one in use. A new version of it needs a restart of the node. Every other module can be reloaded
%%% at any time.
%%% @end
-module(curve_tun_nif).

-export([public_key_to_text/1, public_key_from_text/1, server_host/2, error_message/1, error_reasons/0]).
-export([vault_generate/0, vault_open_file/2, vault_open_agent/1, vault_open_pkcs11/2, vault_create_file/1]).
-export([vault_dummy/0, vault_later/1, vault_public_key/1]).
-export([vault_nonce/1, vault_box/4, vault_box_open/4]).
-export([registry_new/0, registry_open_file/1, registry_open_dns/2, registry_problem/1, registry_later/0]).
-export([registry_file_problem/1]).
-export([registry_add/3, registry_remove/3, registry_lookup/3, registry_verify/4, registry_server_keys/4]).
-export([known_open/1, known_look_up/4, known_remember/4, trust_new/3, trust_answer/2]).
-export([server_new/6, server_tick/2, is_listener_name/1]).
-export([connection_new/0, begin_client/3, begin_server/4, source/1, handshake/2, ask/2, answer/2, transport_ended/1]).
-export([established/2, peer_public_key/1, proven_public_key/1]).
-export([close/1, ended/3, end_of/1, is_current/1]).
-export([seal/2, written/1, pile/1, unsent/2, await_turn/1, take_turn/2, end_sending/1, open/2, release/1]).
-export([bytes_sent/1]).
-export([stream_begin/5, is_service_name/1, stream_accept/1, stream_check/2, stream_finish/1, stream_close/1, stream_abort/2]).
-export([stream_open/2, stream_transport_ended/1, stream_information/1, abort_message/1]).

-export_type([vault/0, registry/0, known/0, known_keys/0, trust/0, trust_step/0, trust_answer/0, server/0,
              connection/0, source/0, state/0, request/0, answer/0, step/0, place/0, secret_file/0, dns_options/0, refusal/0,
              packet/0, reason/0]).

-on_load(load/0).

-opaque vault() :: reference().
%% A vault.
-opaque registry() :: reference().
%% A registry.
-opaque known() :: reference().
%% The servers that a client knows.
-type known_keys() :: {known, {[curve_tun:public_key()], Denied :: boolean()}}.
%% What the file says of one server, and of one key offered for it.
-opaque trust() :: reference().
%% Decides which key of a server is trusted.
-opaque server() :: reference().
%% A server's vault, registry and minute keys.
-opaque connection() :: reference().
%% What a client counts as, where clients have their turns.
-type source() :: binary().
%% One end of a connection.
-type state() :: ready | initiating | accepting | connected.
%% The state of a connection's handshake.
-type request() ::
    {answer_hello, ClientShort :: binary(), Hello :: binary(), HelloNonce :: binary(), Cookie :: binary(),
     CookiePrefix :: binary()}
  | {seal_vouch, Server :: binary(), Message :: binary(), VouchPrefix :: binary()}
  | {open_vouch, Client :: binary(), Vouch :: binary(), VouchNonce :: binary()}
  | {verify, inet:ip_address(), Key :: binary(), Listener :: binary()}.
%% What a connection asks of a provider written in Erlang.
-type secret_file() :: binary() | none.
%% A file whose first line is a passphrase or a PIN. It is read outside the BEAM's heap.
-type answer() ::
    {hello_answered, Nonce :: binary(), CookieBox :: binary()}
  | {vouch_sealed, Nonce :: binary(), Vouch :: binary()}
  | {vouch_opened, Message :: binary()}
  | {verdict, boolean()}
  | {failed, vault | verify}.
%% The provider's answer.
-type place() :: inet:ip_address() | {inet:ip_address(), PrefixLength :: 0..128} | unicode:latin1_binary().
%% One address, or all that share a prefix. The text form also allows `<<"*">>', which matches any
%% address, even those of networks with entries of their own, and `<<"!">>', which denies the key
%% whatever other entries it has.
-type dns_options() :: #{servers => [{inet:ip_address(), inet:port_number()}], trust_anchors => binary(),
                         allow_unvalidated => boolean(), timeout_ms => non_neg_integer(), ttl_max => non_neg_integer(),
                         cache_max => non_neg_integer()}.
%% See `curve_tun_dns_registry'.
-type refusal() :: {key_changed, Known :: curve_tun:public_key(), Offered :: curve_tun:public_key()}
                 | {key_denied, Offered :: curve_tun:public_key()} | {unknown_peer, Offered :: curve_tun:public_key()}
                 | atom().
%% Why a server's key is not trusted.
-type trust_step() :: find | {look_up | first_use | connect | remember, curve_tun:public_key()}
                    | {use, Remembered :: boolean() | {error, atom()}} | {refuse, term()}.
%% The next step in finding out which key of a server to trust, or the final result. When a failure
%% causes a refusal, the reason is that of the failure.
-type trust_answer() :: {found, [curve_tun:public_key()]} | known_keys() | {first_use, refuse | once | remember}
                      | connected | remembered | {failed, term()}.
%% The outcome of a step.
-type packet() :: raw | 4.
%% What a stream carries: bytes, or messages that may be large.
-type reason() :: atom() | {aborted, Code :: non_neg_integer()}.
%% Why a connection ended.
-type step() :: {ok, state(), ToSend :: binary(), Rest :: binary(), request() | ask | none} | {error, atom()}.
%% How a handshake continues. `ask' is a request to a vault or a registry of the NIF that takes
%% time: see `ask/2'.

%% Loads the file that the environment variable names, for programs in an archive, or the one in
%% priv/.
-spec load() -> ok | {error, {atom(), string()}}.
load() ->
    File = case os:getenv("CURVE_TUN_NIF") of
               false -> filename:join(priv(), "curve_tun_nif");
               Named -> filename:rootname(Named, ".so")
           end,
    erlang:load_nif(File, 0).

-spec priv() -> file:filename().
priv() ->
    case code:priv_dir(curve_tun) of
        {error, bad_name} -> filename:join([filename:dirname(code:which(?MODULE)), "..", "priv"]);
        Dir -> Dir
    end.

-spec public_key_to_text(curve_tun:public_key()) -> binary().
public_key_to_text(_Key) -> erlang:nif_error(not_loaded).

-spec public_key_from_text(binary()) -> {ok, curve_tun:public_key()} | {error, bad_key_text}.
public_key_from_text(_Text) -> erlang:nif_error(not_loaded).

%% Returns a host as registries name it: an address, or a name in lower case.
-spec server_host(binary(), inet:port_number()) -> {ok, binary()} | {error, badarg}.
server_host(_Host, _Port) -> erlang:nif_error(not_loaded).

%% Returns the sentence for a reason from the table of errors, without a full stop.
-spec error_message(atom()) -> binary() | none.
error_message(_Reason) -> erlang:nif_error(not_loaded).

%% Returns the reason of each error in that table. Some errors share a reason.
-spec error_reasons() -> [atom()].
error_reasons() -> erlang:nif_error(not_loaded).

-spec vault_generate() -> {ok, vault()} | {error, atom()}.
vault_generate() -> erlang:nif_error(not_loaded).

-spec vault_open_file(binary(), secret_file()) -> {ok, vault()} | {error, atom()}.
vault_open_file(_Path, _PassphraseFile) -> erlang:nif_error(not_loaded).

-spec vault_open_agent(binary()) -> {ok, vault()} | {error, atom()}.
vault_open_agent(_SocketPath) -> erlang:nif_error(not_loaded).

-spec vault_open_pkcs11(binary(), secret_file()) -> {ok, vault()} | {error, atom()}.
vault_open_pkcs11(_Uri, _PinFile) -> erlang:nif_error(not_loaded).

-spec vault_create_file(binary()) -> {ok, curve_tun:public_key()} | {error, atom()}.
vault_create_file(_Path) -> erlang:nif_error(not_loaded).

-spec vault_dummy() -> {ok, vault()} | {error, atom()}.
vault_dummy() -> erlang:nif_error(not_loaded).

-spec vault_later(curve_tun:public_key()) -> vault().
vault_later(_Key) -> erlang:nif_error(not_loaded).

-spec vault_public_key(vault()) -> curve_tun:public_key().
vault_public_key(_Vault) -> erlang:nif_error(not_loaded).

-spec vault_nonce(vault()) -> {ok, binary()} | {error, atom()}.
vault_nonce(_Vault) -> erlang:nif_error(not_loaded).

-spec vault_box(vault(), Message :: binary(), Nonce :: binary(), curve_tun:public_key()) ->
          {ok, binary()} | {error, atom()}.
vault_box(_Vault, _Message, _Nonce, _Peer) -> erlang:nif_error(not_loaded).

-spec vault_box_open(vault(), Box :: binary(), Nonce :: binary(), curve_tun:public_key()) ->
          {ok, binary()} | {error, atom()}.
vault_box_open(_Vault, _Box, _Nonce, _Peer) -> erlang:nif_error(not_loaded).

-spec registry_new() -> registry().
registry_new() -> erlang:nif_error(not_loaded).

-spec registry_open_file(binary()) -> {ok, registry()} | {error, atom()}.
registry_open_file(_Path) -> erlang:nif_error(not_loaded).

-spec registry_open_dns(Zone :: binary(), dns_options()) -> {ok, registry()} | {error, atom()}.
registry_open_dns(_Zone, _Options) -> erlang:nif_error(not_loaded).

-spec registry_problem(registry()) -> none | {Line :: pos_integer(), Column :: pos_integer(), binary()} | atom().
registry_problem(_Registry) -> erlang:nif_error(not_loaded).

%% Says why a registry file could not be opened just now.
-spec registry_file_problem(binary()) -> none | {Line :: pos_integer(), Column :: pos_integer(), binary()} | atom().
registry_file_problem(_Path) -> erlang:nif_error(not_loaded).

-spec registry_later() -> registry().
registry_later() -> erlang:nif_error(not_loaded).

-spec registry_add(registry(), place(), curve_tun:public_key()) -> ok | {error, atom()}.
registry_add(_Registry, _Place, _Key) -> erlang:nif_error(not_loaded).

-spec registry_remove(registry(), place(), curve_tun:public_key()) -> ok | {error, atom()}.
registry_remove(_Registry, _Place, _Key) -> erlang:nif_error(not_loaded).

%% Here and below: `later' is followed by a message `{Reference, {ok, _} | {error, _}}'.
-spec registry_lookup(registry(), inet:ip_address(), reference()) ->
          {ok, [curve_tun:public_key()]} | {error, atom()} | later.
registry_lookup(_Registry, _Address, _Reference) -> erlang:nif_error(not_loaded).

-spec registry_verify(registry(), inet:ip_address(), curve_tun:public_key(), reference()) ->
          {ok, boolean()} | {error, atom()} | later.
registry_verify(_Registry, _Address, _Key, _Reference) -> erlang:nif_error(not_loaded).

-spec registry_server_keys(registry(), Host :: binary(), inet:port_number(), reference()) ->
          {ok, [curve_tun:public_key(), ...]} | {error, atom()} | later.
registry_server_keys(_Registry, _Host, _Port, _Reference) -> erlang:nif_error(not_loaded).

-spec known_open(binary()) -> {ok, known()} | {error, atom()}.
known_open(_Path) -> erlang:nif_error(not_loaded).

-spec known_look_up(known(), Host :: binary(), inet:port_number(), curve_tun:public_key()) ->
          {ok, known_keys()} | {error, atom()}.
known_look_up(_Known, _Host, _Port, _Key) -> erlang:nif_error(not_loaded).

-spec known_remember(known(), Host :: binary(), inet:port_number(), curve_tun:public_key()) -> ok | {error, refusal()}.
known_remember(_Known, _Host, _Port, _Key) -> erlang:nif_error(not_loaded).

%% Decides which key of a server is trusted. Returns the first step; `trust_answer/2' returns the
%% following ones.
-spec trust_new(curve_tun:public_key() | none, ByName :: boolean(), KnownServers :: boolean()) ->
          {trust(), trust_step()}.
trust_new(_Given, _ByName, _KnownServers) -> erlang:nif_error(not_loaded).

%% An answer that does not match the step gives `{error, wrong_state}'.
-spec trust_answer(trust(), trust_answer()) -> trust_step() | {error, wrong_state}.
trust_answer(_Trust, _Answer) -> erlang:nif_error(not_loaded).

%% One source has at most so many of the handshakes, or all for 0.
-spec server_new(vault(), registry(), HandshakesMax :: 1..16#ffffffff, PerSource :: 0..16#ffffffff, Listener :: binary(),
                 NowMs :: non_neg_integer()) -> {ok, server()} | {error, atom()}.
server_new(_Vault, _Registry, _HandshakesMax, _PerSource, _Listener, _NowMs) -> erlang:nif_error(not_loaded).

%% Says whether a listener may have this name.
-spec is_listener_name(binary()) -> boolean().
is_listener_name(_Name) -> erlang:nif_error(not_loaded).

-spec server_tick(server(), NowMs :: non_neg_integer()) -> {ok, NextMs :: non_neg_integer()} | {error, atom()}.
server_tick(_Server, _NowMs) -> erlang:nif_error(not_loaded).

-spec connection_new() -> connection().
connection_new() -> erlang:nif_error(not_loaded).

-spec begin_client(connection(), vault(), curve_tun:public_key()) -> {ok, Hello :: binary()} | {error, atom()}.
begin_client(_Connection, _Vault, _ServerKey) -> erlang:nif_error(not_loaded).

%% Takes a permit for a client's handshake, which a process runs. The caller tells the processes of
%% the handshakes that were evicted for it.
-spec begin_server(connection(), server(), pid(), inet:ip_address()) -> {ok, Evicted :: [pid()]} | {error, atom()}.
begin_server(_Connection, _Server, _Process, _Address) -> erlang:nif_error(not_loaded).

%% Its IPv4 address, or the /64 of its IPv6 address; `none' for a client's end, and once the
%% handshake is over.
-spec source(connection()) -> source() | none.
source(_Connection) -> erlang:nif_error(not_loaded).

-spec handshake(connection(), binary()) -> step().
handshake(_Connection, _Bytes) -> erlang:nif_error(not_loaded).

%% Has the request `ask' answered. `answer/2' is then to be called with `answered': at once, or
%% after `later' when the message `{Reference, answered}' has arrived.
-spec ask(connection(), reference()) -> answered | later | {error, atom()}.
ask(_Connection, _Reference) -> erlang:nif_error(not_loaded).

-spec answer(connection(), answer() | answered) -> step().
answer(_Connection, _Answer) -> erlang:nif_error(not_loaded).

-spec transport_ended(connection()) -> closed | wrong_server_key | atom().
transport_ended(_Connection) -> erlang:nif_error(not_loaded).

%% `Taken' is the number of bytes that the socket has taken so far.
-spec established(connection(), Taken :: non_neg_integer()) -> ok | {error, atom()}.
established(_Connection, _Taken) -> erlang:nif_error(not_loaded).

-spec peer_public_key(connection()) -> {ok, curve_tun:public_key()} | {error, wrong_state}.
peer_public_key(_Connection) -> erlang:nif_error(not_loaded).

%% Returns the peer's key once it is proven, even if the peer is refused afterwards.
-spec proven_public_key(connection()) -> {ok, curve_tun:public_key()} | none.
proven_public_key(_Connection) -> erlang:nif_error(not_loaded).

-spec close(connection()) -> ok.
close(_Connection) -> erlang:nif_error(not_loaded).

%% Records why a connection ended. The first reason stays.
-spec ended(connection(), client | server, reason()) -> ok.
ended(_Connection, _Role, _Reason) -> erlang:nif_error(not_loaded).

-spec end_of(connection()) -> {client | server, reason()} | none.
end_of(_Connection) -> erlang:nif_error(not_loaded).

%% Says whether this NIF can use an object. It cannot use those made before its module was deleted,
%% purged and loaded again.
-spec is_current(vault() | registry() | known() | server() | connection()) -> boolean().
is_current(_Object) -> erlang:nif_error(not_loaded).

%% Seals under the writer lock, which the caller takes with its first seal and releases with
%% `written/1'. Returns `ok' when the messages are in the write queue of a sender that holds the
%% lock, and `busy' when another process holds it, or the caller has to leave the messages to the
%% sender.
-spec seal(connection(), [binary()]) ->
          ok | {ok, Frames :: binary(), Rest :: [binary()]} | busy | {error, atom()} | {error, atom(), Frames :: binary()}.
seal(_Connection, _Messages) -> erlang:nif_error(not_loaded).

%% Releases the writer lock, unless the caller is a sender with queued messages. If a process is
%% waiting for the lock, it holds it from then on and has to be told.
-spec written(connection()) -> ok | {next, pid()} | piled.
written(_Connection) -> erlang:nif_error(not_loaded).

%% Returns what has been queued for a sender that holds the writer lock. After `none' the sender is
%% sent `piled' once there is something. After `ok' it no longer holds the lock.
-spec pile(connection()) -> {ok, Frames :: binary()} | {error, atom(), Frames :: binary()} | none | ok.
pile(_Connection) -> erlang:nif_error(not_loaded).

%% Returns how many bytes a sender still has to write, given how many the socket has taken in all.
-spec unsent(connection(), Taken :: non_neg_integer()) -> non_neg_integer().
unsent(_Connection, _Taken) -> erlang:nif_error(not_loaded).

%% Returns how many bytes the socket has taken, or will have taken once everything sealed is
%% written. The count outlives the connection; it is 0 before the handshake is complete.
-spec bytes_sent(connection()) -> non_neg_integer().
bytes_sent(_Connection) -> erlang:nif_error(not_loaded).

%% Takes the writer lock, or waits for it.
-spec await_turn(connection()) -> ok | {busy, Writer :: pid()} | {error, atom()}.
await_turn(_Connection) -> erlang:nif_error(not_loaded).

%% Takes the writer lock of a dead process, with the frames it left unwritten. `Taken' is the number
%% of bytes that the socket has taken.
-spec take_turn(connection(), Taken :: non_neg_integer()) -> {ok, Frames :: binary()} | {error, atom()}.
take_turn(_Connection, _Taken) -> erlang:nif_error(not_loaded).

-spec end_sending(connection()) -> ok.
end_sending(_Connection) -> erlang:nif_error(not_loaded).

-spec open(connection(), binary()) ->
          {Messages :: [binary()], Rest :: binary(), ok | atom()} | {error, atom()}.
open(_Connection, _Bytes) -> erlang:nif_error(not_loaded).

-spec release(connection()) -> ok.
release(_Connection) -> erlang:nif_error(not_loaded).

%% Has a connection carry a stream, before it is established. `MessageMax' is the largest message
%% that this end takes, in bytes; the service is that which a client asks for, or empty.
-spec stream_begin(connection(), client | server, packet(), MessageMax :: 0..16#ffffffff, Service :: binary()) ->
          ok | {error, atom()}.
stream_begin(_Connection, _Role, _Packet, _MessageMax, _Service) -> erlang:nif_error(not_loaded).

%% Says whether a service may have this name.
-spec is_service_name(binary()) -> boolean().
is_service_name(_Name) -> erlang:nif_error(not_loaded).

%% Takes the stream that a client has opened. What is due then is sealed by `seal/2'.
-spec stream_accept(connection()) -> ok | {error, atom()}.
stream_accept(_Connection) -> erlang:nif_error(not_loaded).

%% Says whether a message of this size can be sent; `later' if it has to wait until the peer has
%% opened.
-spec stream_check(connection(), Size :: non_neg_integer()) -> ok | later | {error, emsgsize | atom()}.
stream_check(_Connection, _Size) -> erlang:nif_error(not_loaded).

%% Ends what this end sends. The caller holds the writer lock, and seals what is due.
-spec stream_finish(connection()) -> ok | {error, atom()}.
stream_finish(_Connection) -> erlang:nif_error(not_loaded).

%% Takes nothing more from processes that send. What the sender was asked to send before still goes.
-spec stream_close(connection()) -> ok | {error, atom()}.
stream_close(_Connection) -> erlang:nif_error(not_loaded).

%% Gives the stream up, as far as it has not ended. What is due then is sealed by `seal/2'.
-spec stream_abort(connection(), Code :: 0..65535) -> ok | {error, atom()}.
stream_abort(_Connection, _Code) -> erlang:nif_error(not_loaded).

%% Opens received bytes of a stream. `opened' stands where the peer has opened, and `finished' where
%% it has ended what it sends. Says also whether there is something to seal.
-spec stream_open(connection(), binary()) ->
          {Items :: [binary() | opened | finished], Rest :: binary(), ok | reason(), IsDue :: boolean()} | {error, atom()}.
stream_open(_Connection, _Bytes) -> erlang:nif_error(not_loaded).

%% Returns what the end of the transport means: `finished' after both ends, `closed' after the
%% peer's.
-spec stream_transport_ended(connection()) -> finished | closed | reason().
stream_transport_ended(_Connection) -> erlang:nif_error(not_loaded).

%% Returns what a connection carries, and the service that the peer has asked for.
-spec stream_information(connection()) -> none | {packet(), Service :: binary() | none}.
stream_information(_Connection) -> erlang:nif_error(not_loaded).

%% Returns the sentence for a code of an abort.
-spec abort_message(Code :: 0..65535) -> binary().
abort_message(_Code) -> erlang:nif_error(not_loaded).
