%%% @private
%%% References to NIF objects that outlive their process: a vault or registry process that crashes comes back with the
%%% key or the entries that it had. They end with the application.
-module(curve_tun_keep).

-export([get_or_make/2, find/1, forget_all/0]).

%% Gives what is kept for the provider, or keeps what `Make' makes.
-spec get_or_make(module(), fun(() -> {ok, Value} | {error, Reason})) -> {ok, Value} | {error, Reason}.
get_or_make(Provider, Make) ->
    case find(Provider) of
        {ok, Value} ->
            {ok, Value};
        error ->
            maybe_keep(Provider, Make())
    end.

-spec maybe_keep(module(), {ok, Value} | {error, Reason}) -> {ok, Value} | {error, Reason}.
maybe_keep(Provider, {ok, Value}) ->
    ok = persistent_term:put({?MODULE, Provider}, Value),
    {ok, Value};
maybe_keep(_Provider, {error, Reason}) ->
    {error, Reason}.

-spec find(module()) -> {ok, term()} | error.
find(Provider) ->
    case persistent_term:get({?MODULE, Provider}, none) of
        none -> error;
        Value -> {ok, Value}
    end.

-spec forget_all() -> ok.
forget_all() ->
    _ = [persistent_term:erase(Key) || {{?MODULE, _} = Key, _} <- persistent_term:get()],
    ok.
