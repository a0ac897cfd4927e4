%%% @doc The default registry: which public keys may come in from which addresses and networks.
%%%
%%% With `{registry_file, Path}' in the application's environment its entries are those of that
%%% file, which the tool `curve-tun peers' and this module create and change. Each decision checks
%%% whether the file has changed. If the file becomes unusable, the previous entries stay in force,
%%% and {@link problem/0} says why. The application does not start without the file, or with an
%%% invalid line in it: its log names the line. Without the setting the entries are in memory, and
%%% live as long as the application runs, even if this process is restarted.
%%%
%%% Lines `[host]:port key' of the file name servers, for clients that connect without `key'.
%%%
%%% Only the most specific network that holds an address decides about it. An empty registry lets
%%% nobody in. An IPv4-mapped IPv6 address is the IPv4 address. A change takes effect with the next
%%% handshake; existing connections stay.
%%% @end
-module(curve_tun_simple_registry).
-behaviour(curve_tun_registry).
-behaviour(curve_tun_provider_server).

-export([start_link/0, open/0, handle/0, register/2, unregister/2, lookup/1, verify/2, server_keys/2, problem/0]).

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    curve_tun_provider_server:start_link(?MODULE).

%% @private
-spec open() -> {ok, curve_tun_nif:registry()} | {error, atom()}.
open() ->
    case application:get_env(curve_tun, registry_file) of
        undefined -> {ok, curve_tun_nif:registry_new()};
        {ok, Path} -> open(<<_/binary>> = unicode:characters_to_binary(Path))
    end.

%% Logs which line is wrong, for whoever starts the node.
-spec open(binary()) -> {ok, curve_tun_nif:registry()} | {error, atom()}.
open(Path) ->
    case curve_tun_nif:registry_open_file(Path) of
        {ok, Registry} ->
            {ok, Registry};
        {error, Reason} ->
            ok = curve_tun_log:registry_file(Path, Reason, curve_tun_nif:registry_file_problem(Path)),
            {error, Reason}
    end.

%% @private
-spec handle() -> {ok, curve_tun_nif:registry()} | {error, registry_failed | {not_started, curve_tun}}.
handle() ->
    curve_tun_native_registry:handle(?MODULE).

%% @doc Lets the holder of a key in from an address, `{127,0,0,1}', from a network,
%% `{{10,0,0,0}, 8}' or `<<"10.0.0.0/8">>', or with `<<"*">>' from anywhere; with `<<"!">>' from
%% nowhere, whatever other entries the key has. An address may have any number of keys. Registering
%% one again changes nothing. With a file, this can also fail as file operations do.
-spec register(curve_tun_nif:place(), curve_tun:public_key()) -> ok | {error, {not_started, curve_tun} | atom()}.
register(Place, Key) ->
    with_registry(fun(Registry) -> curve_tun_nif:registry_add(Registry, Place, Key) end).

%% @doc Removes exactly the entry that {@link register/2} added.
-spec unregister(curve_tun_nif:place(), curve_tun:public_key()) ->
          ok | {error, not_found | bad_address | badarg | registry_failed | {not_started, curve_tun} | atom()}.
unregister(Place, Key) ->
    with_registry(fun(Registry) -> curve_tun_nif:registry_remove(Registry, Place, Key) end).

%% @doc Returns the key that may come in from an address; if there are several, the smallest in byte
%% order.
-spec lookup(inet:ip_address()) ->
          {ok, curve_tun:public_key()} | {error, not_found | badarg | registry_failed | {not_started, curve_tun}}.
lookup(Address) ->
    curve_tun_native_registry:lookup(?MODULE, Address).

%% @doc Says whether the holder of a key may come in over a socket, or from an address.
-spec verify(gen_tcp:socket() | inet:ip_address(), curve_tun:public_key()) -> boolean().
verify(From, Key) ->
    curve_tun_native_registry:verify(?MODULE, From, Key).

%% @doc Returns the keys in the file's lines for a server, in their order, without denied ones.
%% Returns `{error, enotsup}' when the entries are in memory.
-spec server_keys(Host :: binary(), inet:port_number()) ->
          {ok, [curve_tun:public_key(), ...]} | {error, not_found | enotsup | badarg | registry_failed
                                                   | {not_started, curve_tun}}.
server_keys(Host, Port) ->
    curve_tun_native_registry:server_keys(?MODULE, Host, Port).

%% @doc Says why the entries in force are not those of the file: the line, the byte in it and what
%% is wrong there, or why the file cannot be read. Returns `none' if they are, or are in memory.
-spec problem() -> none | {Line :: pos_integer(), Column :: pos_integer(), What :: binary()} | atom()
                 | {error, {not_started, curve_tun} | atom()}.
problem() ->
    with_registry(fun curve_tun_nif:registry_problem/1).

-spec with_registry(fun((curve_tun_nif:registry()) -> Result)) -> 
          Result | {error, badarg | registry_failed | {not_started, curve_tun}}.
with_registry(Do) ->
    curve_tun_native_registry:with_registry(?MODULE, Do).
