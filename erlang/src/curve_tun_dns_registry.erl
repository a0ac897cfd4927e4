%%% @doc The registry in DNS: which public keys may come in from which addresses, and which keys
%%% servers have, in TXT records under a zone. `docs/REGISTRIES.md' of the crate has their names and
%%% their form.
%%%
%%% It is used where `registry_providers' or the option `{registry, curve_tun_dns_registry}' names
%%% it, and takes its settings from `registry_dns' in the application's environment, a list.
%%% `registry_providers' has to name it in any case, as the first or a further one, so that it is
%%% there:
%%%
%%% <dl>
%%% <dt>`{zone, Name}'</dt><dd>the zone, a string or a binary: the one setting that must be
%%% there</dd>
%%% <dt>`{servers, [{Address, Port}]}'</dt><dd>the name servers to ask, which must hand DNSSEC's
%%% records on; not given, those that `/etc/resolv.conf' names at the time</dd>
%%% <dt>`{trust_anchors, Text}'</dt><dd>DNSKEY and DS records that are trusted, as `keymgr' and
%%% `dig' print them, one a line; one key of a zone, that which signs its keys, is enough; not
%%% given, the keys of the root zone</dd>
%%% <dt>`{allow_unvalidated, true}'</dt><dd>takes answers that DNSSEC does not prove: then whoever
%%% is on the way to the name server decides who comes in</dd>
%%% <dt>`{timeout_ms, N}'</dt><dd>milliseconds for an answer, with all that proves it: 1 to
%%% 3,600,000; 5,000 when not given</dd>
%%% <dt>`{ttl_max, N}'</dt><dd>seconds for which an answer is held at most; 300 when not given</dd>
%%% <dt>`{cache_max, N}'</dt><dd>names whose answers are held at most; 65,536 when not given</dd>
%%% </dl>
%%%
%%% The application does not start with settings that cannot be used: `{bad_option, Setting}',
%%% `{missing_option, zone}', `badarg' for what is no zone, no DNSKEY or DS record or out of its
%%% range, `registry_failed' if `/etc/resolv.conf' names no server.
%%%
%%% Answers are awaited by the connections that asked, and by nobody else: 256 names are asked for
%%% at once and 1,024 wait; beyond that a client is refused. A name that is asked for is not asked
%%% for again, and takes one place: up to 1,024 wait for its answer together.
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

%% @doc The key that may come in from an address; the least one, byte by byte, if there are several.
%% Waits for DNS, at most for `timeout_ms', as the calls below do.
-spec lookup(inet:ip_address()) ->
          {ok, curve_tun:public_key()} | {error, not_found | not_validated | timeout | registry_failed | badarg
                                                  | {not_started, curve_tun}}.
lookup(Address) ->
    curve_tun_native_registry:lookup(?MODULE, Address).

%% @doc Whether the holder of a key may come in over a socket, or from an address. Without a proven
%% answer, nobody may.
-spec verify(gen_tcp:socket() | inet:ip_address(), curve_tun:public_key()) -> boolean().
verify(From, Key) ->
    curve_tun_native_registry:verify(?MODULE, From, Key).

%% @doc The keys of a server, an address or a name in the zone.
-spec server_keys(Host :: binary(), inet:port_number()) ->
          {ok, [curve_tun:public_key(), ...]}
        | {error, not_found | not_validated | timeout | registry_failed | badarg
                                                  | {not_started, curve_tun}}.
server_keys(Host, Port) ->
    curve_tun_native_registry:server_keys(?MODULE, Host, Port).
