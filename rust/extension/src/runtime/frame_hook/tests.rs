use super::*;

#[test]
fn a_hook_may_end_itself() {
    let count = Rc::new(Cell::new(0));
    let slot: Rc<RefCell<Option<FrameHook>>> = Rc::default();
    let (seen, own) = (Rc::clone(&count), Rc::clone(&slot));
    *slot.borrow_mut() = Some(FrameHook::new(move || {
        seen.set(seen.get() + 1);
        drop(own.borrow_mut().take());
    }));
    run_all();
    run_all();
    assert_eq!(count.get(), 1);
}

#[test]
fn a_pause_leaves_frames_out_but_not_the_first() {
    let (each, seldom) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let count = |cell: &Rc<Cell<i32>>| {
        let cell = Rc::clone(cell);
        move || cell.set(cell.get() + 1)
    };
    let _each = FrameHook::new(count(&each));
    let _seldom = FrameHook::every(Duration::from_hours(1), count(&seldom));
    for _frame in 0..3 {
        run_all();
    }
    assert_eq!((each.get(), seldom.get()), (3, 1));
}
