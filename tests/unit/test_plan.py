from isograft.plan import Decision, Plan


def test_what_the_user_asked_for_wins_over_the_automatic_value() -> None:
    plan = Plan()
    assert plan.choose("batch_size", 7, 32, "usual") == 7
    assert plan.choose("lr", "auto", 1e-3, "usual") == 1e-3
    assert [decision.reason for decision in plan] == ["as asked", "usual"]


def test_a_plan_survives_its_own_dump() -> None:
    plan = Plan([Decision(name="resolution", value=[[40, 0.8], [64, 0.2]], reason="small first")])
    plan.decide("total_steps", 12, "measured")
    again = Plan.load(plan.dump())
    assert again.dump() == plan.dump()
    assert again["resolution"] == [[40, 0.8], [64, 0.2]]


def test_deciding_twice_keeps_the_last_value() -> None:
    plan = Plan()
    plan.decide("epochs", 1, "first")
    plan.decide("epochs", 2, "second")
    assert plan["epochs"] == 2
    assert len(plan.dump()) == 1
