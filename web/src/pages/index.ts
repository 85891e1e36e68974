// One line a page: its address, its name, what draws it. `nav` lists it on top of every page.
import type { ComponentType } from "preact";
import { AgentsPage } from "./agents";
import { ComparePage } from "./compare";
import { GroupsPage } from "./groups";
import { JobPage } from "./job";
import { JobsPage } from "./jobs";
import { NewJobPage } from "./new_job";
import { ScalingPage } from "./scaling";

export interface PageProps {
  params: Record<string, string>;
}
export interface PageEntry {
  pattern: string;
  title: string;
  nav: boolean;
  page: ComponentType<PageProps>;
}

export const pages: PageEntry[] = [
  { pattern: "/jobs", title: "Jobs", nav: true, page: JobsPage },
  { pattern: "/jobs/new", title: "New job", nav: true, page: NewJobPage },
  { pattern: "/jobs/:id", title: "Job", nav: false, page: JobPage },
  { pattern: "/groups", title: "Scaling", nav: true, page: GroupsPage },
  { pattern: "/groups/:id", title: "Scaling", nav: false, page: ScalingPage },
  { pattern: "/compare", title: "Compare", nav: true, page: ComparePage },
  { pattern: "/agents", title: "Agents", nav: true, page: AgentsPage },
];
export const home = "/jobs";
