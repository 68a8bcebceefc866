% The sandboxed Prolog worker: it is given knowledge bases as text, checks every clause, answers queries about them.
%
% One JSON object a line on stdin, one a line on stdout:
%   {"load": [{"name", "text"}], "allow": ["p/1"]}  ->  {"ok": true, "predicates": ["p/1"]}
%                                                   or  {"ok": false, "problems": [{"file", "line", "rule", "message"}]}
%   {"ask": "p", "args": [null, "pve1"]}            ->  {"ok": true, "rows": [[...]]}  or  {"ok": false, "error": "..."}
% Values: number, text (an atom), {"string": text}, {"term": text}; null asks.
%
% Nothing that a file says is ever run while it is read: no load_files/2, no term expansion, no directive. All files are
% read and checked first; only when nothing is wrong do their clauses come into the module kb. A body may call the
% predicates of the files and those listed in allowed/1; anything else refuses the whole knowledge base.

:- use_module(library(lists)).
:- use_module(library(apply)).
:- use_module(library(aggregate)).
:- use_module(library(pairs)).
:- use_module(library(readutil)).
:- use_module(library(terms)).
:- use_module(library(time)).
:- use_module(library(http/json)).

:- dynamic setting/2, askable/2, defined/2, own_module/1, problem/4.

limits([seconds, inferences, rows, characters, clauses, predicates, cells]).

main :-
    current_prolog_flag(argv, Given),
    ( append(_, ['--'|Texts], Given) -> true ; Texts = Given ),
    maplist(atom_number, Texts, Numbers), limits(Names),
    forall(( nth1(I, Names, Name), nth1(I, Numbers, Number) ), assertz(setting(Name, Number))),
    forall(( member(Library, [lists, apply, aggregate, pairs]), module_property(Library, exports(Exports)),
             member(Export, Exports), ( plain(Export) ; meta(Export) ) ),
           kb:import(Library:Export)),
    forall(member(S, [user_input, user_output]), set_stream(S, encoding(utf8))),
    set_stream(user_output, buffer(full)),
    reply(_{ok: true}),
    serve.

serve :-
    read_line_to_string(user_input, Line),
    ( Line == end_of_file -> halt
    ; catch(handle(Line, Answer), Error, failure(Error, Answer)), reply(Answer), serve ).

reply(Dict) :- json_write_dict(current_output, Dict, [width(0)]), nl, flush_output.

failure(Error, _{ok: false, error: Text}) :- explain(Error, Text).

explain(limit(Name), Text) :- !, setting(Name, Value), format(string(Text), "more than ~w ~w", [Value, Name]).
explain(limit_text(Text), Text) :- !.
explain(time_limit_exceeded, Text) :- !, setting(seconds, Value), format(string(Text), "more than ~w seconds", [Value]).
explain(error(resource_error(What), _), Text) :- !, format(string(Text), "no more room (~w)", [What]).
explain(Error, Text) :- short(Error, Text).

short(Term, Text) :-
    catch(format(string(All), "~W", [Term, [quoted(true), max_depth(8)]]), _, All = "?"),
    ( string_length(All, L), L > 200 -> sub_string(All, 0, 200, _, Text) ; Text = All ).

handle(Line, Answer) :-
    atom_json_dict(Line, Request, []),
    ( get_dict(load, Request, Files) -> load(Files, Request.allow, Answer)
    ; ask(Request.ask, Request.args, Answer) ).

% --- loading

load(Files, Allow, Answer) :-
    setting(seconds, Seconds),
    call_with_time_limit(Seconds, foldl(read_file, Files, [], Reversed)),
    reverse(Reversed, Clauses),
    length(Clauses, Count), setting(clauses, Most),
    ( Count > Most -> throw(limit(clauses)) ; true ),
    aggregate_all(count, defined(_, _), Predicates), setting(predicates, MostPredicates),
    ( Predicates > MostPredicates -> throw(limit(predicates)) ; true ),
    call_with_time_limit(Seconds, check_bodies(Clauses, Checked)),
    ( problem(_, _, _, _)
    -> findall(_{file: F, line: L, rule: R, message: M}, problem(F, L, R, M), Problems),
       Answer = _{ok: false, problems: Problems}
    ;  forall(defined(Name, Arity), dynamic(kb:Name/Arity)),
       forall(member(Clause, Checked), assertz(kb:Clause)),
       forall(( member(Text, Allow), term_to_indicator(Text, Name, Arity) ), assertz(askable(Name, Arity))),
       findall(Text, ( defined(Name, Arity), format(string(Text), "~w/~w", [Name, Arity]) ), Texts),
       Answer = _{ok: true, predicates: Texts} ).

term_to_indicator(Text, Name, Arity) :-
    atomic_list_concat(Parts, '/', Text), append(Start, [Last], Parts),
    atomic_list_concat(Start, '/', Name), atom_number(Last, Arity).

refuse(File, Line, Rule, Message) :- assertz(problem(File, Line, Rule, Message)).

read_file(File, Before, After) :-
    setup_call_cleanup(open_string(File.text, Stream), read_terms(File, Stream, Before, After), close(Stream)).

read_terms(File, Stream, Before, After) :-
    catch(( read_one(Stream, Term, Line), Outcome = read ), Error, Outcome = wrong(Error)),
    ( Outcome = wrong(Wrong)
    -> unreadable(File.name, Stream, Wrong),
       ( goes_on(File.name, Wrong) -> read_terms(File, Stream, Before, After) ; After = Before )
    ;  Term == end_of_file
    -> ( rest_is_blank(Stream) -> true
       ; refuse(File.name, Line, end_of_file, "text after end_of_file would never be read") ),
       After = Before
    ;  take(Term, File.name, Line, Before, Next), read_terms(File, Stream, Next, After) ).

read_one(Stream, Term, Line) :-
    read_term(Stream, Term, [module(kb), term_position(Position), syntax_errors(error), cycles(false),
                             dotlists(false), var_prefix(false), quasi_quotations(Quotations)]),
    ( Quotations == [] -> true ; throw(quasi_quotation) ),
    ( nonvar(Position) -> stream_position_data(line_count, Position, Line) ; line_count(Stream, Line) ).

rest_is_blank(Stream) :- read_string(Stream, _, Rest), split_string(Rest, "", " \t\r\n", [""]).

unreadable(Name, Stream, quasi_quotation) :- !,
    line_count(Stream, Line), refuse(Name, Line, quasi_quotation, "quasi quotations are not read").
unreadable(Name, Stream, error(syntax_error(What), Where)) :- !,
    ( nonvar(Where), Where = stream(_, Line, _, _) -> true ; line_count(Stream, Line) ),
    words(What, Words), format(string(Text), "not readable: ~s", [Words]), refuse(Name, Line, syntax, Text).
unreadable(Name, Stream, Error) :-
    line_count(Stream, Line), explain(Error, Text), refuse(Name, Line, limit, Text).

% The reader stands behind the broken clause, so that the next ones are looked at too; the number of them is limited.
goes_on(Name, error(syntax_error(What), _)) :-
    What \== end_of_file, aggregate_all(count, problem(Name, _, syntax, _), Count), Count < 20.

words(end_of_file, "the last clause does not end with a full stop, or a quote or a comment is not closed") :- !.
words(operator_expected, "a comma, an operator or a full stop is missing between two terms") :- !.
words(end_of_clause_expected, "a closing bracket or a full stop is missing") :- !.
words(cannot_start_term, "a bracket or a comma stands where a term should begin") :- !.
words(What, Text) :- format(string(Text), "~w", [What]).

take(Term, Name, Line, Before, After) :-
    setting(cells, Most),
    ( term_size(Term, Size), Size > Most
    -> format(string(Text), "a term of ~w cells; the limit is ~w", [Size, Most]),
       refuse(Name, Line, huge_term, Text), After = Before
    ;  has_dict(Term) -> refuse(Name, Line, dict, "dicts are not read"), After = Before
    ;  take_kind(Term, Name, Line, Before, After) ).

has_dict(Term) :- sub_term(Sub, Term), nonvar(Sub), ( is_dict(Sub) ; compound(Sub), compound_name_arity(Sub, '$dot', _) ), !.

take_kind(Term, Name, Line, Same, Same) :- var(Term), !, refuse(Name, Line, clause, "a variable is no clause").
take_kind((:- Directive), Name, Line, Same, Same) :- !,
    ( directive(Directive) -> true
    ; short(Directive, Text), format(string(Message), "directive not allowed: ~s", [Text]),
      refuse(Name, Line, directive, Message) ).
take_kind((?- _), Name, Line, Same, Same) :- !, refuse(Name, Line, directive, "directive not allowed: ?-").
take_kind((_ --> _), Name, Line, Same, Same) :- !, refuse(Name, Line, grammar, "grammar rules are not read").
take_kind((_ => _), Name, Line, Same, Same) :- !, refuse(Name, Line, rule, "=> rules are not read").
take_kind((Head :- Body), Name, Line, Before, [clause(Name, Line, Head, Body)|Before]) :- !, head(Head, Name, Line).
take_kind(Head, Name, Line, Before, [clause(Name, Line, Head, true)|Before]) :- head(Head, Name, Line).

directive(Goal) :- var(Goal), !, fail.
directive(dynamic(List)) :- declare(List).
directive(discontiguous(List)) :- declare(List).
directive(module(Name, Exports)) :-
    atom(Name), is_list(Exports), maplist(is_indicator, Exports), assertz(own_module(Name)).

declare(List) :- var(List), !, fail.
declare((A, B)) :- !, declare(A), declare(B).
declare([]) :- !.
declare([A|B]) :- !, declare(A), declare(B).
declare(Name/Arity) :- is_indicator(Name/Arity), functor(Head, Name, Arity), \+ taken(Head), define(Name, Arity).

is_indicator(Indicator) :- nonvar(Indicator), Indicator = Name/Arity, atom(Name), integer(Arity), between(0, 32, Arity).

define(Name, Arity) :- ( defined(Name, Arity) -> true ; assertz(defined(Name, Arity)) ).

head(Head, Name, Line) :-
    ( callable(Head), \+ Head = _:_, \+ taken(Head), functor(Head, Functor, Arity), Arity =< 32
    -> define(Functor, Arity)
    ;  short(Head, Text), format(string(Message), "may not be defined: ~s", [Text]), refuse(Name, Line, head, Message) ).

taken(Head) :- functor(Head, Name, Arity), ( allowed(Name/Arity) ; hook(Name) ; control(Name/Arity) ; meta(Name/Arity) ), !.
taken(Head) :- predicate_property(system:Head, built_in), !.

hook(Name) :- memberchk(Name, [term_expansion, goal_expansion, dcg_translate_rule, portray, portray_clause, exception,
    message_hook, message_property, prolog_load_file, prolog_file_type, file_search_path, library_directory,
    safe_primitive, safe_meta, safe_meta_predicate, safe_global_variable, safe_directive, expand_query, expand_answer,
    prolog_event_hook, unknown_predicate_hook, resource, at_halt, initialization, main]).

% --- checking bodies

check_bodies([], []).
check_bodies([clause(Name, Line, Head, Body)|Rest], Checked) :-
    catch(( body(Body, Goal), Checked = [(Head :- Goal)|More] ), refused(What),
          ( refuse(Name, Line, goal, What), Checked = More )),
    check_bodies(Rest, More).

refused(Format, Arguments) :- format(string(Text), Format, Arguments), throw(refused(Text)).

body(Goal, _) :- var(Goal), !, refused("a goal that is a variable cannot be checked", []).
body(Goal, _) :- \+ callable(Goal), !, short(Goal, Text), refused("no goal: ~s", [Text]).
body(Module:Goal, Checked) :- !,
    ( atom(Module), own_module(Module) -> body(Goal, Checked)
    ; short(Module:Goal, Text), refused("goal in a module that is not one of these files: ~s", [Text]) ).
body(Goal, Checked) :- functor(Goal, Name, Arity), control(Name/Arity), !,
    Goal =.. [Name|Goals], maplist(body, Goals, Ready), Checked =.. [Name|Ready].
body(format(Sink, Text, Arguments), format(Sink, Text, Arguments)) :- !, format_call(Sink, Text).
body(Goal, Checked) :- functor(Goal, Name, Arity), meta(Name/Arity), !, meta_goal(Goal, Checked).
body(Goal, Goal) :- functor(Goal, Name, Arity), ( defined(Name, Arity) ; allowed(Name/Arity) ), !.
body(Goal, _) :- functor(Goal, Name, Arity), refused("~w/~w is neither in these files nor allowed", [Name, Arity]).

control((',')/2). control((;)/2). control((->)/2). control((*->)/2). control((\+)/1). control(once/1). control(ignore/1).
control(forall/2).

meta(findall/3). meta(findall/4). meta(aggregate_all/3). meta(bagof/3). meta(setof/3).
meta(Name/Arity) :- closure(Name, Arity, _).

closure(maplist, Arity, Extra) :- between(2, 6, Arity), Extra is Arity - 1.
closure(foldl, Arity, Extra) :- between(4, 6, Arity), Extra is Arity - 1.
closure(include, 3, 1). closure(exclude, 3, 1). closure(partition, 4, 1).
closure(call, Arity, Extra) :- between(1, 7, Arity), Extra is Arity - 1.

meta_goal(findall(T, G, L), findall(T, C, L)) :- body(G, C).
meta_goal(findall(T, G, L, R), findall(T, C, L, R)) :- body(G, C).
meta_goal(aggregate_all(W, G, R), aggregate_all(W, C, R)) :- body(G, C).
meta_goal(bagof(T, G, L), bagof(T, C, L)) :- quantified(G, C).
meta_goal(setof(T, G, L), setof(T, C, L)) :- quantified(G, C).
meta_goal(Goal, Checked) :- functor(Goal, Name, Arity), closure(Name, Arity, Extra), !,
    Goal =.. [Name, Closure|Rest],
    ( var(Closure) -> refused("a goal that is a variable cannot be checked", []) ; true ),
    ( nonvar(Closure), Closure = Module:Inner, own_module(Module) -> true ; Inner = Closure ),
    ( callable(Inner) -> true ; refused("~w: the first argument is no goal", [Name]) ),
    ( Extra == 0 -> body(Inner, Called)
    ; Inner =.. [F|Given], length(Given, N), All is N + Extra,
      ( ( defined(F, All) ; allowed(F/All) ) -> Called = Inner
      ; refused("~w/~w is neither in these files nor allowed", [F, All]) ) ),
    Checked =.. [Name, Called|Rest].

quantified(Goal, _) :- var(Goal), !, body(Goal, _).
quantified(V^Goal, V^Checked) :- !, quantified(Goal, Checked).
quantified(Goal, Checked) :- body(Goal, Checked).

% format/3 can call goals (~@, ~p, ~i and columns are harmless): only a literal text is checked, only into a value.
format_call(Sink, Text) :-
    ( nonvar(Sink), memberchk(Sink, [atom(_), string(_), codes(_)]) -> true
    ; refused("format/3 may only write into atom(X), string(X) or codes(X)", []) ),
    ( nonvar(Text), ( atom(Text) ; string(Text) ) -> true ; refused("the text of format/3 must be written out", []) ),
    ( ( sub_string(Text, _, _, _, "~@") ; sub_string(Text, _, _, _, "~p") ; sub_string(Text, _, _, _, "~*") )
    -> refused("format/3 with ~~@, ~~p or ~~* is not allowed", []) ; true ).

allowed(Indicator) :- nonvar(Indicator), plain(Indicator), !.

plain(true/0). plain(fail/0). plain(false/0). plain(!/0).
plain((=)/2). plain((\=)/2). plain((==)/2). plain((\==)/2). plain((@<)/2). plain((@>)/2). plain((@=<)/2). plain((@>=)/2).
plain(compare/3). plain((is)/2). plain((=:=)/2). plain((=\=)/2). plain((<)/2). plain((>)/2). plain((=<)/2). plain((>=)/2).
plain(var/1). plain(nonvar/1). plain(atom/1). plain(number/1). plain(integer/1). plain(float/1). plain(atomic/1).
plain(string/1). plain(compound/1). plain(callable/1). plain(is_list/1). plain(ground/1).
plain(between/3). plain(succ/2). plain(plus/3). plain(length/2). plain(msort/2). plain(sort/2). plain(sort/4).
plain(member/2). plain(memberchk/2). plain(append/2). plain(append/3). plain(nth0/3). plain(nth1/3). plain(last/2).
plain(reverse/2). plain(select/3). plain(subtract/3). plain(union/3). plain(intersection/3). plain(delete/3).
plain(list_to_set/2). plain(sum_list/2). plain(sumlist/2). plain(max_list/2). plain(min_list/2). plain(max_member/2).
plain(min_member/2). plain(numlist/3). plain(pairs_keys_values/3). plain(pairs_keys/2).
plain(atom_length/2). plain(atom_concat/3). plain(sub_atom/5). plain(atom_chars/2). plain(atom_codes/2).
plain(atom_number/2). plain(number_codes/2). plain(char_code/2). plain(upcase_atom/2). plain(downcase_atom/2).
plain(atomic_list_concat/2). plain(atomic_list_concat/3). plain(split_string/4). plain(string_concat/3).
plain(string_length/2). plain(string_lower/2). plain(string_upper/2). plain(string_chars/2). plain(string_codes/2).
plain(string_to_atom/2). plain(atom_string/2). plain(number_string/2). plain(sub_string/5). plain(functor/3).

% --- answering

ask(NameText, Given, Answer) :-
    atom_string(Name, NameText), length(Given, Arity),
    ( askable(Name, Arity), defined(Name, Arity) -> true
    ; format(string(Text), "~w/~w may not be asked", [Name, Arity]), throw(limit_text(Text)) ),
    maplist(from_json, Given, Arguments), Goal =.. [Name|Arguments],
    setting(seconds, Seconds), setting(inferences, Inferences), setting(rows, Rows), More is Rows + 1,
    call_with_time_limit(Seconds,
        call_with_inference_limit(findall(Arguments, limit(More, kb:Goal), Found), Inferences, Result)),
    ( Result == inference_limit_exceeded -> throw(limit(inferences)) ; true ),
    ( acyclic_term(Found) -> true ; throw(limit_text("an answer is a term within itself")) ),
    length(Found, Count), ( Count > Rows -> throw(limit(rows)) ; true ),
    setting(cells, Cells), ( term_size(Found, Size), Size > 10 * Cells -> throw(limit(cells)) ; true ),
    setting(characters, Characters),
    foldl(to_json_row, Found, Texts, Characters, _),
    Answer = _{ok: true, rows: Texts}.

from_json(null, _) :- !.
from_json(Value, Value) :- number(Value), !.
from_json(Dict, String) :- is_dict(Dict), !, String = Dict.string.
from_json(Text, Atom) :- atom_string(Atom, Text).

to_json_row(Row, Values, Left, Rest) :- foldl(to_json, Row, Values, Left, Rest).

to_json(Value, Value, Left, Rest) :- number(Value), !, spend(Value, Left, Rest).
to_json(Value, Text, Left, Rest) :- atom(Value), !, atom_string(Value, Text), spend(Text, Left, Rest).
to_json(Value, _{string: Value}, Left, Rest) :- string(Value), !, spend(Value, Left, Rest).
to_json(Value, _, _, _) :- var(Value), !, throw(limit_text("an answer leaves a value open")).
to_json(Value, _{term: Text}, Left, Rest) :- format(string(Text), "~q", [Value]), spend(Text, Left, Rest).

spend(Value, Left, Rest) :-
    string_length(Value, Length), Rest is Left - Length, ( Rest < 0 -> throw(limit(characters)) ; true ).

:- initialization(main, main).
