// The administrator's strip: which hosts there are, what runs their desktops and why.
import { useCallback } from 'preact/hooks';
import * as api from '../api/client';
import type { Host } from '../api/types';
import { formatBytes, formatMoment } from '../lib/format';
import { usePoll } from '../lib/poll';
import { text } from '../text';

/** Hosts change seldom; ms. */
const REFRESH_MS = 10_000;

export function Hosts() {
  const ask = useCallback((signal: AbortSignal) => api.hosts(signal), []);
  const { value, error } = usePoll(ask, REFRESH_MS);
  if (value === undefined && error === undefined) return null;
  return (
    <section class="hosts" aria-labelledby="hosts-heading" data-testid="hosts">
      <header>
        <h2 id="hosts-heading">{text.hosts.heading}</h2>
        <p>{text.hosts.note}</p>
      </header>
      {value === undefined ? (
        <p class="quiet">{error?.detail}</p>
      ) : value.length === 0 ? (
        <p class="quiet">{text.hosts.none}</p>
      ) : (
        <ul>
          {value.map((host) => (
            <HostLine key={host.id} host={host} />
          ))}
        </ul>
      )}
    </section>
  );
}

function HostLine({ host }: { host: Host }) {
  const { facts } = host;
  const kvm = facts.accel === 'kvm';
  const state = host.online ? text.hosts.online : text.hosts.offline(formatMoment(host.last_seen));
  const quantities = [
    text.hosts.desktops(host.desktops),
    text.hosts.cpus(facts.cpus),
    text.hosts.memory(formatBytes(host.memory_available), formatBytes(facts.memory_mib * 1024 * 1024)),
    text.hosts.disk(formatBytes(host.disk_free)),
  ];
  return (
    <li class="host" data-testid="host">
      <p class="host-name">
        <span class={`host-dot ${host.online ? 'host-dot-on' : ''}`} aria-hidden="true" />
        <strong>{host.name}</strong> <span class="quiet">{state}</span>
      </p>
      <p class="host-accel">
        <span class={`chip chip-${kvm ? 'good' : 'calm'}`}>{kvm ? text.hosts.kvm : text.hosts.tcg}</span>{' '}
        <span>{text.hosts.driver(facts.driver, facts.driver_version)}</span>
      </p>
      <p class="host-reason">{facts.accel_reason}</p>
      <p class="host-quantities">
        {quantities.map((quantity) => quantity.replaceAll(' ', '\u00a0')).join(' · ')}
      </p>
    </li>
  );
}
