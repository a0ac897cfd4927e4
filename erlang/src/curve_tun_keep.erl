%%% @private
%%% References to NIF objects that outlive their process: a vault or registry process that crashes comes back with the
%%% key or the entries that it had, and a client's file of known servers is opened once. They end with the application.
-module(curve_tun_keep).

-export([get_or_make/2, find/1, forget_all/0]).

%% A provider, or a file of known servers.
-type user() :: module() | {known_servers, file:filename_all()}.

%% Gives what is kept for its user, or keeps what `Make' makes.
-spec get_or_make(user(), fun(() -> {ok, Value} | {error, Reason})) -> {ok, Value} | {error, Reason}.
get_or_make(User, Make) ->
    case find(User) of
        {ok, Value} ->
            {ok, Value};
        error ->
            maybe_keep(User, Make())
    end.

-spec maybe_keep(user(), {ok, Value} | {error, Reason}) -> {ok, Value} | {error, Reason}.
maybe_keep(User, {ok, Value}) ->
    ok = persistent_term:put({?MODULE, User}, Value),
    {ok, Value};
maybe_keep(_User, {error, Reason}) ->
    {error, Reason}.

-spec find(user()) -> {ok, term()} | error.
find(User) ->
    case persistent_term:get({?MODULE, User}, none) of
        none -> error;
        Value -> {ok, Value}
    end.

-spec forget_all() -> ok.
forget_all() ->
    _ = [persistent_term:erase(Key) || {{?MODULE, _} = Key, _} <- persistent_term:get()],
    ok.
