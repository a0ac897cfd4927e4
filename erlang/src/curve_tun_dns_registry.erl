%%% @doc The registry in DNS: which public keys may come in from which addresses, and which keys
%%% servers have, in TXT records under a zone. `docs/REGISTRIES.md' of the crate describes their
%%% names and format.
%%%
%%% It is used where `registry_providers' or the option `{registry, curve_tun_dns_registry}' names
%%% it. Its settings are a list under `registry_dns' in the application's environment.
%%% `registry_providers' has to name it in any case, first or later in the list, so that it is
%%% started:
%%%
%%% <dl>
%%% <dt>`{zone, Name}'</dt><dd>the zone, a string or a binary: the only mandatory setting</dd>
%%% <dt>`{servers, [{Address, Port}]}'</dt><dd>the name servers to ask, which must pass on DNSSEC
%%% records; by default those currently in `/etc/resolv.conf'</dd>
%%% <dt>`{trust_anchors, Text}'</dt><dd>trusted DNSKEY and DS records, as `keymgr' and `dig' print
%%% them, one a line; one key of a zone, the one that signs its keys, is enough; by default the keys
%%% of the root zone</dd>
%%% <dt>`{allow_unvalidated, true}'</dt><dd>accepts answers that DNSSEC does not prove: then anybody
%%% on the path to the name server decides who comes in</dd>
%%% <dt>`{timeout_ms, N}'</dt><dd>milliseconds for an answer, with everything that proves it: 1 to
%%% 3,600,000; 5,000 by default</dd>
%%% <dt>`{ttl_max, N}'</dt><dd>maximum seconds for which an answer is cached; 300 by default</dd>
%%% <dt>`{cache_max, N}'</dt><dd>maximum number of names whose answers are cached; 65,536 by
%%% default</dd>
%%% </dl>
%%%
%%% The application does not start with unusable settings: `{bad_option, Setting}',
%%% `{missing_option, zone}', `badarg' for an invalid zone, DNSKEY or DS record or a value out of
%%% range, `registry_failed' if `/etc/resolv.conf' names no server.
%%%
%%% Only the connections that asked wait for answers. Up to 256 names are looked up at once and
%%% 1,024 wait; beyond that a client is refused. Lookups of the same name share one query and one
%%% place: up to 1,024 wait for its answer together.
%%% @end
-module(curve_tun_dns_registry).
-behaviour(curve_tun_registry).
-behaviour(curve_tun_provider_server).

-export([start_link/0, open/0, handle/0, lookup/1, verify/2, server_keys/2]).

-define(UINT32_MAX, 16#ffffffff).

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    curve_tun_provider_server:start_link(?MODULE).

%% @private
-spec open() -> {ok, curve_tun_nif:registry()} | {error, atom() | curve_tun:option_error()}.
open() ->
    Settings = application:get_env(curve_tun, registry_dns, []),
    try settings(Settings, #{}) of
        #{zone := Zone} = Given -> curve_tun_nif:registry_open_dns(Zone, maps:remove(zone, Given));
        _ -> {error, {missing_option, zone}}
    catch
        throw:Reason -> {error, Reason}
    end.

-spec settings(term(), map()) -> map().
settings([Setting | Rest], Given) -> settings(Rest, setting(Setting, Given));
settings([], Given) -> Given;
settings(NoList, _Given) -> throw({bad_option, NoList}).

-spec setting(term(), map()) -> map().
setting({Name, Text} = Setting, Given) when Name =:= zone; Name =:= trust_anchors ->
    Given#{Name => text(Text, Setting)};
setting({servers, Servers} = Setting, Given) ->
    is_list(Servers) andalso lists:all(fun is_server/1, Servers) orelse throw({bad_option, Setting}),
    Given#{servers => Servers};
setting({allow_unvalidated, Flag}, Given) when is_boolean(Flag) ->
    Given#{allow_unvalidated => Flag};
setting({Name, N}, Given) when Name =:= timeout_ms orelse Name =:= ttl_max orelse Name =:= cache_max,
                               is_integer(N), N >= 0, N =< ?UINT32_MAX ->
    Given#{Name => N};
setting(Setting, _Given) ->
    throw({bad_option, Setting}).

-spec text(term(), term()) -> binary().
text(Text, Setting) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> throw({bad_option, Setting})
    catch
        error:badarg -> throw({bad_option, Setting})
    end.

-spec is_server(term()) -> boolean().
is_server({Address, Port}) ->
    inet:is_ip_address(Address) andalso is_integer(Port) andalso Port > 0 andalso Port < 65536;
is_server(_) ->
    false.

%% @private
-spec handle() -> {ok, curve_tun_nif:registry()} | {error, registry_failed | {not_started, curve_tun}}.
handle() ->
    curve_tun_native_registry:handle(?MODULE).

%% @doc Returns the key that may come in from an address; if there are several, the smallest in byte
%% order. Waits for DNS, for at most `timeout_ms', as do the functions below.
-spec lookup(inet:ip_address()) ->
          {ok, curve_tun:public_key()} | {error, not_found | not_validated | timeout | registry_failed | badarg
                                                  | {not_started, curve_tun}}.
lookup(Address) ->
    curve_tun_native_registry:lookup(?MODULE, Address).

%% @doc Says whether the holder of a key may come in over a socket, or from an address. Without a
%% proven answer, nobody may.
-spec verify(gen_tcp:socket() | inet:ip_address(), curve_tun:public_key()) -> boolean().
verify(From, Key) ->
    curve_tun_native_registry:verify(?MODULE, From, Key).

%% @doc Returns the keys of a server, given as an address or a name in the zone.
-spec server_keys(Host :: binary(), inet:port_number()) ->
          {ok, [curve_tun:public_key(), ...]}
        | {error, not_found | not_validated | timeout | registry_failed | badarg
                                                  | {not_started, curve_tun}}.
server_keys(Host, Port) ->
    curve_tun_native_registry:server_keys(?MODULE, Host, Port).
