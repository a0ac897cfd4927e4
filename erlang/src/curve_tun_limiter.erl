%%% @private
%%% The places of handshakes in flight, shared fairly among the sources that they are for.
%%%
%%% There are at most so many, and at most so many of one source. A newcomer for whom there is no
%%% place gets that of another: of the source that holds most places, the newcomer counted in, the
%%% oldest handshake gives way; of several such sources, the one whose oldest is the oldest. So
%%% whoever floods from few addresses gives way to himself.
-module(curve_tun_limiter).

-export([new/2, source/1, take/3, leave/2, taken/1]).
-export_type([shares/0, source/0]).

-opaque source() :: inet:ip4_address() | {v6, char(), char(), char(), char()}.

-record(shares, {
    most :: pos_integer(),
    most_of_one :: pos_integer() | infinity,
    next = 0 :: non_neg_integer(),
    places = #{} :: #{pid() => {source(), non_neg_integer()}},
    %% What each source holds, the oldest first.
    holders = #{} :: #{source() => gb_sets:set({non_neg_integer(), pid()})},
    %% Every source, the one that gives way first.
    ranks = gb_sets:empty() :: gb_sets:set(rank())
}).
-opaque shares() :: #shares{}.
-type rank() :: {neg_integer(), non_neg_integer(), source()}.

%% So many places, of which one source has so many at most.
-spec new(pos_integer(), pos_integer() | infinity) -> shares().
new(Most, MostOfOne) ->
    #shares{most = Most, most_of_one = MostOfOne}.

%% What shares are counted by: an IPv4 address, or the /64 of an IPv6 address, which is what one
%% subscriber has.
-spec source(inet:ip_address()) -> source().
source({0, 0, 0, 0, 0, 16#ffff, AB, CD}) ->
    {AB bsr 8, AB band 255, CD bsr 8, CD band 255};
source({A, B, C, D, _, _, _, _}) ->
    {v6, A, B, C, D};
source({_, _, _, _} = Address) ->
    Address.

-spec taken(shares()) -> non_neg_integer().
taken(#shares{places = Places}) ->
    map_size(Places).

%% A place for a newcomer; or who has to give way before there is one.
-spec take(pid(), source(), shares()) -> {ok, shares()} | {gives_way, pid()}.
take(Pid, Source, #shares{next = Next, places = Places} = S) ->
    case gives_way(Source, S) of
        none ->
            Taken = S#shares{next = Next + 1, places = Places#{Pid => {Source, Next}}},
            {ok, change(Source, fun(Held) -> gb_sets:add_element({Next, Pid}, Held) end, Taken)};
        Holder ->
            {_, Oldest} = gb_sets:smallest(held(Holder, S)),
            {gives_way, Oldest}
    end.

-spec gives_way(source(), shares()) -> source() | none.
gives_way(Source, #shares{most = Most, most_of_one = MostOfOne} = S) ->
    Held = gb_sets:size(held(Source, S)),
    case {Held >= MostOfOne, map_size(S#shares.places) >= Most} of
        {true, _} -> Source;
        {false, false} -> none;
        {false, true} -> element(3, lists:min([rank(Held + 1, Source, S) || Held > 0] ++ other(Source, S#shares.ranks)))
    end.

%% The first of the others' ranks.
-spec other(source(), gb_sets:set(rank())) -> [rank()].
other(Source, Ranks) ->
    case gb_sets:is_empty(Ranks) orelse gb_sets:take_smallest(Ranks) of
        true -> [];
        {{_, _, Source}, Rest} -> other(Source, Rest);
        {Rank, _} -> [Rank]
    end.

%% Gives a place back; a process that has none gives nothing.
-spec leave(pid(), shares()) -> shares().
leave(Pid, #shares{places = Places} = S) ->
    case maps:take(Pid, Places) of
        {{Source, Number}, Rest} ->
            Left = S#shares{places = Rest},
            change(Source, fun(Held) -> gb_sets:del_element({Number, Pid}, Held) end, Left);
        error ->
            S
    end.

-spec held(source(), shares()) -> gb_sets:set({non_neg_integer(), pid()}).
held(Source, #shares{holders = Holders}) ->
    maps:get(Source, Holders, gb_sets:empty()).

-spec rank(pos_integer(), source(), shares()) -> rank().
rank(Count, Source, S) ->
    {Oldest, _} = gb_sets:smallest(held(Source, S)),
    {-Count, Oldest, Source}.

%% Changes what a source holds, and its rank with it.
-spec change(source(), fun((Held) -> Held), shares()) -> shares() when Held :: gb_sets:set({non_neg_integer(), pid()}).
change(Source, Change, #shares{holders = Holders, ranks = Ranks} = S) ->
    Before = held(Source, S),
    Without = case gb_sets:size(Before) of
                  0 -> Ranks;
                  Count -> gb_sets:del_element(rank(Count, Source, S), Ranks)
              end,
    After = Change(Before),
    case gb_sets:size(After) of
        0 ->
            S#shares{holders = maps:remove(Source, Holders), ranks = Without};
        Size ->
            Changed = S#shares{holders = Holders#{Source => After}},
            Changed#shares{ranks = gb_sets:add_element(rank(Size, Source, Changed), Without)}
    end.
