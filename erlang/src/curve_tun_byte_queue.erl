%%% @private
%%% Takes bytes from the front of a queue of binaries.
-module(curve_tun_byte_queue).

-export([take/2, take_all/1]).

%% Takes exactly this many bytes, at least one; there have to be as many. Says how many binaries
%% have left the queue.
-spec take(pos_integer(), queue:queue(binary())) -> {binary(), queue:queue(binary()), Left :: non_neg_integer()}.
take(Length, Queue) ->
    take(Length, Queue, [], 0).

-spec take(pos_integer(), queue:queue(binary()), [binary()], non_neg_integer()) ->
          {binary(), queue:queue(binary()), non_neg_integer()}.
take(Length, Queue, Acc, Count) ->
    {{value, First}, Rest} = queue:out(Queue),
    case First of
        <<Part:Length/binary>> -> {joined([Part | Acc]), Rest, Count + 1};
        <<Part:Length/binary, After/binary>> -> {joined([Part | Acc]), queue:in_r(After, Rest), Count};
        _ -> take(Length - byte_size(First), Rest, [First | Acc], Count + 1)
    end.

%% Takes all of a queue that is not empty.
-spec take_all(queue:queue(binary())) -> binary().
take_all(Queue) ->
    joined(lists:reverse(queue:to_list(Queue))).

-spec joined([binary(), ...]) -> binary().
joined([Binary]) -> Binary;
joined(Reversed) -> iolist_to_binary(lists:reverse(Reversed)).
