%%% @private
%%% References to NIF objects that outlive their process: a vault or registry process that crashes
%%% comes back with its previous key or entries, and a client's file of known servers is opened only
%%% once. They end with the application.
-module(curve_tun_handles).

-export([get_or_make/2, find/1, is_current/1, forget_all/0]).

%% A provider, or a file of known servers.
-type user() :: module() | {known_servers, file:filename_all()}.

%% Returns the object stored for a user, or stores the one that `Make' makes.
-spec get_or_make(user(), fun(() -> {ok, Value} | {error, Reason})) -> {ok, Value} | {error, Reason}.
get_or_make(User, Make) ->
    case kept(User) of
        {ok, Value} ->
            {ok, Value};
        stale ->
            _ = persistent_term:erase({?MODULE, User}),
            maybe_keep(User, Make());
        error ->
            maybe_keep(User, Make())
    end.

-spec maybe_keep(user(), {ok, Value} | {error, Reason}) -> {ok, Value} | {error, Reason}.
maybe_keep(User, {ok, Value}) ->
    ok = persistent_term:put({?MODULE, User}, Value),
    {ok, Value};
maybe_keep(_User, {error, Reason}) ->
    {error, Reason}.

%% Returns the object stored for a provider. If the NIF has been replaced, the provider's process
%% makes a new one.
-spec find(module()) -> {ok, term()} | error.
find(Module) ->
    case kept(Module) of
        {ok, Value} -> {ok, Value};
        stale -> curve_tun_provider_server:again(Module);
        error -> error
    end.

-spec kept(user()) -> {ok, term()} | stale | error.
kept(User) ->
    case persistent_term:get({?MODULE, User}, none) of
        none ->
            error;
        Value ->
            case is_current(Value) of
                true -> {ok, Value};
                false -> stale
            end
    end.

%% Says whether an object was made by the NIF that is loaded. Once its module has been deleted and
%% loaded again, objects made before are unusable.
-spec is_current(term()) -> boolean().
is_current(Object) ->
    %% Not by a call that would load the module: while its old code is still being purged, such a
    %% call may never return.
    erlang:function_exported(curve_tun_nif, is_current, 1) andalso curve_tun_nif:is_current(Object).

-spec forget_all() -> ok.
forget_all() ->
    _ = [persistent_term:erase(Key) || {{?MODULE, _} = Key, _} <- persistent_term:get()],
    ok.
