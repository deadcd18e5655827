-- Removes the queue with everything in it.
drop view steady_queue_all_jobs, steady_queue_queues, steady_queue_running_jobs,
  steady_queue_failed_jobs, steady_queue_due_jobs, steady_queue_limits,
  steady_queue_alive_processes, steady_queue_recurring, steady_queue_violations,
  steady_queue_recent_failures, steady_queue_help, steady_queue_throughput,
  steady_queue_totals, steady_queue_queues_at_a_glance, steady_queue_limits_at_a_glance,
  steady_queue_running_jobs_at_a_glance;

do $$
declare
  v_function regprocedure;
begin
  -- Triggers go with their functions. Newest first: the bodies of some name others.
  for v_function in
    select p.oid::regprocedure
    from pg_proc p
    where p.pronamespace = current_schema()::regnamespace and starts_with(p.proname, 'steady_queue_')
    order by p.oid desc
  loop
    execute format('drop function %s cascade', v_function);
  end loop;
end
$$;

drop table steady_queue_jobs, steady_queue_lanes, steady_queue_ready, steady_queue_scheduled,
  steady_queue_blocked, steady_queue_running, steady_queue_outcomes, steady_queue_errors,
  steady_queue_semaphores, steady_queue_pauses, steady_queue_processes,
  steady_queue_recurring_tasks, steady_queue_recurring_executions, steady_queue_figures;

drop domain steady_queue_task, steady_queue_queue, steady_queue_priority, steady_queue_arguments,
  steady_queue_moment, steady_queue_limit_key, steady_queue_limit_to, steady_queue_limit_for,
  steady_queue_limit_conflict;

drop type steady_queue_claimed_job;

drop sequence steady_queue_positions, steady_queue_claims, steady_queue_slot_numbers,
  steady_queue_process_numbers;
